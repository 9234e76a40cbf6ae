"""Runs an image-to-image network made elsewhere, from an ONNX file and a YAML sidecar (docs/onnx.md)."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.content import READ, missing_content
from sim_bridge.errors import MissingExtraError, TranslatorError, UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.translators import Shot, Translation, Translator
from sim_bridge.translators.batches import stack
from sim_bridge.translators.load import TranslatorSettings
from sim_bridge.translators.onnx_sidecar import (
    EdgesInput,
    LabelsInput,
    OnehotInput,
    Output,
    RgbInput,
    Sidecar,
    read_sidecar,
)

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
except ImportError as error:
    raise MissingExtraError("onnxruntime", "onnx", "running an ONNX file") from error

_log = logging.getLogger(__name__)

# ONNX Runtime's exceptions have no common base of their own.
_ORT_ERRORS: Final[tuple[type[Exception], ...]] = tuple(
    getattr(ort_state, name)
    for name in (
        "EPFail",
        "EngineError",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
)

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
}

AnyInput = RgbInput | LabelsInput | OnehotInput | EdgesInput


@dataclass(frozen=True, slots=True)
class _Shape:
    """A tensor's declared shape, by axis; None where the file leaves it open."""

    batch: int | None
    channels: int | None
    height: int | None
    width: int | None


class OnnxTranslator(Translator):
    """An ONNX file in the bridge's network stage. It has no style, and the precision is the file's own."""

    def __init__(self, session: ort.InferenceSession, sidecar: Sidecar, name: str, model_id: str) -> None:
        self._session = session
        self._sidecar = sidecar
        self._name = name
        self._model_id = model_id
        nodes = {node.name: node for node in session.get_inputs()}
        outputs = {node.name: node for node in session.get_outputs()}
        _check_names(name, sidecar, set(nodes), set(outputs))
        shapes = [_check_tensor(name, spec, nodes[spec.name], sidecar) for spec in sidecar.inputs]
        shapes.append(_check_tensor(name, sidecar.output, outputs[sidecar.output.name], sidecar))
        self._dtypes = {spec.name: _DTYPES[nodes[spec.name].type] for spec in sidecar.inputs}
        self._fixed = _fixed_size(name, shapes)
        self._multiple = 1 if self._fixed else sidecar.multiple
        self._one_by_one = _takes_one(name, shapes)
        self._edges = _edge_operator(sidecar)

    @classmethod
    def load(cls, path: Path, *, device: str = "auto") -> OnnxTranslator:
        """Loads ``NAME.onnx`` and its sidecar ``NAME.yaml``.

        Args:
            path: The ONNX file.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; CUDA needs the package onnxruntime-gpu.

        Raises:
            TranslatorError: A file cannot be read, the sidecar is wrong or does not fit the network.
            UsageError: The file or the device is not there.
        """
        model = _read(path)
        sidecar = read_sidecar(path.with_suffix(".yaml"))
        external = {name: _read(path.parent / name) for name in sidecar.external_data}
        digest = hashlib.sha256(model)
        for name in sorted(external):
            digest.update(external[name])
        session = _open_session(path, model, external, _providers(device))
        translator = cls(session, sidecar, path.stem, digest.hexdigest()[:12])
        if device.startswith("cuda") and translator.provider != "CUDAExecutionProvider":
            raise TranslatorError(f"{path} could not be placed on {device}: use --device cpu, or read the log above")
        return translator

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self._name

    @property
    def model_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the ONNX file and its external data."""
        return self._model_id

    @property
    def provider(self) -> str:
        """ONNX Runtime's name for where it runs, for example ``CPUExecutionProvider``."""
        return str(self._session.get_providers()[0])

    @property
    def classes(self) -> tuple[str, ...]:
        """The sidecar's classes."""
        return self._sidecar.classes

    @property
    def facts(self) -> Mapping[str, str]:
        """ONNX Runtime's provider as the device."""
        return {"device": self.provider}

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        """Translates a batch, picture by picture where the file fixes the batch to one.

        Raises:
            TranslatorError: The size is not the network's, or it fails, or it answers with another size or with NaN.
        """
        if self._one_by_one and len(shots) > 1:
            return [answer for shot in shots for answer in self.translate([shot])]
        pictures, edges = self._run(*stack(shots))
        maps = [None] * len(pictures) if edges is None else list(edges)
        return [Translation(*made) for made in zip(pictures, maps, strict=True)]

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Runs the network once per size and batch: ONNX Runtime plans its memory per shape."""
        for width, height in sizes:
            for count in range(1, 2 if self._one_by_one else batch + 1):
                self._run(np.zeros((count, height, width, 3), np.uint8), np.zeros((count, height, width), np.uint8))

    def _run(self, rgb: ByteArray, labels: ByteArray) -> tuple[ByteArray, ByteArray | None]:
        height, width = rgb.shape[1:3]
        if self._fixed not in (None, (width, height)):
            wanted = "x".join(map(str, self._fixed or ()))
            raise TranslatorError(f"{self._name} takes {wanted} only and got {width}x{height}: use --size {wanted}")
        rgb, labels = _pad(rgb, self._multiple), _pad(labels, self._multiple)
        edges = None if self._edges is None else self._edges(rgb)
        feeds = {spec.name: self._encode(spec, rgb, labels, edges) for spec in self._sidecar.inputs}
        try:
            (answer,) = self._session.run([self._sidecar.output.name], feeds)
        except _ORT_ERRORS as error:
            detail = " ".join(str(error).split())
            raise TranslatorError(f"{self._name} failed on a {width}x{height} frame: {detail}") from error
        picture = _decode(self._name, self._sidecar.output, answer, rgb.shape)
        return _crop(picture, height, width), None if edges is None else _crop(edges, height, width)

    def _encode(self, spec: AnyInput, rgb: ByteArray, labels: ByteArray, edges: ByteArray | None) -> npt.NDArray[Any]:
        dtype = self._dtypes[spec.name]
        if isinstance(spec, RgbInput):
            scale, offset = spec.affine()
            ordered = rgb if spec.channels == "rgb" else rgb[..., ::-1]
            return _lay_out(_scaled(ordered, scale, offset, dtype), spec.layout)
        if isinstance(spec, LabelsInput):
            return _lay_out(labels[..., None].astype(dtype), spec.layout)
        if isinstance(spec, OnehotInput):
            planes = labels[..., None] == np.arange(len(self._sidecar.classes), dtype=np.uint8)
            return _lay_out(planes.astype(dtype), spec.layout)
        assert edges is not None
        scale, offset = spec.affine()
        return _lay_out(_scaled(edges[..., None], scale, offset, dtype), spec.layout)


class _EdgeMap:
    """The bundle's own edge operator, for networks that take an edge map."""

    def __init__(self, spec: EdgesInput) -> None:
        try:
            import torch

            from models.edges import EdgeSettings, LaplacianEdges
        except ImportError as error:
            raise MissingExtraError("torch", "engine", "an ONNX input with role edges") from error
        self._tensor = torch.tensor
        self._operator = LaplacianEdges(EdgeSettings(**spec.operator.model_dump()))

    def __call__(self, rgb: ByteArray) -> ByteArray:
        """Edges of uint8 ``(B, H, W, 3)`` as uint8 ``(B, H, W)``, 0 or 255."""
        planes: npt.NDArray[np.bool_] = self._operator(self._tensor(rgb)).numpy()
        return planes[:, 0].astype(np.uint8) * np.uint8(255)


def _edge_operator(sidecar: Sidecar) -> _EdgeMap | None:
    specs = [spec for spec in sidecar.inputs if isinstance(spec, EdgesInput)]
    return _EdgeMap(specs[0]) if specs else None


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        sentence = f"the ONNX file {path} cannot be read ({error.strerror}): check the path"
        raise (UsageError if isinstance(error, FileNotFoundError) else TranslatorError)(sentence) from error
    if (missing := missing_content(data[:READ])) is not None:
        raise TranslatorError(f"the ONNX file {path} {missing.fact}: {missing.advice}")
    return data


def _providers(device: str) -> list[Any]:
    """Execution providers, best first."""
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device.startswith("cuda") and not has_cuda:
        raise UsageError(
            f"the device {device!r} was asked for, but this onnxruntime has no CUDA: "
            "use --device cpu, or install onnxruntime-gpu in its place"
        )
    if device == "cpu" or not has_cuda:
        return ["CPUExecutionProvider"]
    number = int(device.partition(":")[2] or 0)
    return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]


def _open_session(path: Path, model: bytes, external: dict[str, bytes], providers: list[Any]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Threads that spin between frames would take the processor from the simulator and from the bridge's own stages.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # What runs is exactly what was hashed: weights come from memory, and no folder is given that could hold others.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if external:
        blobs = list(external.values())
        options.add_external_initializers_from_files_in_memory(list(external), blobs, [len(blob) for blob in blobs])
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except _ORT_ERRORS as error:
        detail = " ".join(str(error).split())
        hint = (
            "name its weight files under 'external_data' in the sidecar" if "xternal" in detail else "export it again"
        )
        raise TranslatorError(f"the ONNX file {path} cannot be loaded ({detail}): {hint}") from error


def _check_names(name: str, sidecar: Sidecar, inputs: set[str], outputs: set[str]) -> None:
    named = {spec.name for spec in sidecar.inputs}
    if named - inputs:
        raise TranslatorError(
            f"the sidecar of {name} names the inputs {_listed(named - inputs)}, but the network has {_listed(inputs)}"
        )
    if inputs - named:
        raise TranslatorError(
            f"the sidecar of {name} does not say what the inputs {_listed(inputs - named)} are: add them"
        )
    if sidecar.output.name not in outputs:
        raise TranslatorError(
            f"the sidecar of {name} names the output {sidecar.output.name!r}, but the network has {_listed(outputs)}"
        )


def _check_tensor(name: str, spec: AnyInput | Output, node: Any, sidecar: Sidecar) -> _Shape:
    """Compares a sidecar entry with the network's own declaration."""
    tensor = f"the tensor {spec.name!r} of {name}"
    if node.type not in _DTYPES:
        raise TranslatorError(
            f"{tensor} holds {node.type}, known are {', '.join(_DTYPES)}: export it with one of these"
        )
    if len(node.shape) != len(spec.layout):
        raise TranslatorError(
            f"{tensor} has {len(node.shape)} axes, but the sidecar's layout {spec.layout!r} has {len(spec.layout)}"
        )
    sizes = {axis: size if isinstance(size, int) else None for axis, size in zip(spec.layout, node.shape, strict=True)}
    wanted = 3 if isinstance(spec, RgbInput | Output) else len(sidecar.classes) if isinstance(spec, OnehotInput) else 1
    if sizes.get("c") not in (None, wanted):
        raise TranslatorError(
            f"{tensor} has {sizes['c']} channels in layout {spec.layout!r}, but the sidecar means {wanted}"
        )
    if _DTYPES[node.type].kind in "iu" and not _fits_integers(spec):
        raise TranslatorError(
            f"{tensor} holds whole numbers: its range must be [0, 255] without mean and std (for edges also [0, 1])"
        )
    return _Shape(sizes["n"], sizes.get("c"), sizes["h"], sizes["w"])


def _fits_integers(spec: AnyInput | Output) -> bool:
    """Whether scaled bytes are whole numbers again."""
    if isinstance(spec, LabelsInput | OnehotInput):
        return True
    if isinstance(spec, EdgesInput):
        return spec.range in ((0.0, 1.0), (0.0, 255.0))
    scale, offset = spec.affine()
    return bool((scale == 1.0).all() and (offset == 0.0).all())


def _fixed_size(name: str, shapes: Sequence[_Shape]) -> tuple[int, int] | None:
    """``(width, height)`` when the file fixes it, None when it is open."""
    found = {(shape.width, shape.height) for shape in shapes if shape.width is not None and shape.height is not None}
    if len(found) > 1:
        raise TranslatorError(
            f"{name} has tensors of different fixed sizes {sorted(map(str, found))}: a picture must keep its size"
        )
    width, height = next(iter(found), (None, None))
    return None if width is None or height is None else (width, height)


def _takes_one(name: str, shapes: Sequence[_Shape]) -> bool:
    """Whether the file fixes the batch to one picture."""
    fixed = {shape.batch for shape in shapes} - {None}
    if fixed - {1}:
        raise TranslatorError(
            f"{name} has a fixed batch of {sorted(map(str, fixed))}: export it with batch 1 or an open batch axis"
        )
    return bool(fixed)


def _pad(batch: ByteArray, multiple: int) -> ByteArray:
    """Repeats the last row and column until height and width are multiples."""
    down, right = -batch.shape[1] % multiple, -batch.shape[2] % multiple
    if not (down or right):
        return batch
    return np.pad(batch, ((0, 0), (0, down), (0, right), (0, 0))[: batch.ndim], mode="edge")


def _crop(batch: ByteArray, height: int, width: int) -> ByteArray:
    return np.ascontiguousarray(batch[:, :height, :width])


def _scaled(
    values: ByteArray, scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    scaled = values.astype(np.float32)
    scaled *= scale
    scaled += offset
    return scaled.astype(dtype, copy=False) if dtype.kind == "f" else np.rint(scaled).astype(dtype)


def _lay_out(values: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """From ``(B, H, W, C)`` to the named layout, contiguous."""
    if layout == "nhw":
        return np.ascontiguousarray(values[..., 0])
    return np.ascontiguousarray(values if layout == "nhwc" else values.transpose(0, 3, 1, 2))


def _decode(name: str, spec: Output, answer: npt.NDArray[Any], shape: tuple[int, ...]) -> ByteArray:
    values = answer if spec.layout == "nhwc" else answer.transpose(0, 2, 3, 1)
    if values.shape != shape:
        raise TranslatorError(
            f"{name} answered a {shape[2]}x{shape[1]} picture with shape {answer.shape} (layout {spec.layout!r}): "
            "check 'multiple' and 'layout' in its sidecar"
        )
    scale, offset = spec.affine()
    picture = (values.astype(np.float32) - offset) / scale
    if not np.isfinite(picture).all():
        raise TranslatorError(
            f"{name} answered with values that are no numbers: it may need fp32, or another input range"
        )
    rounded = np.rint(np.clip(picture, 0.0, 255.0)).astype(np.uint8)
    return np.ascontiguousarray(rounded if spec.channels == "rgb" else rounded[..., ::-1])


def _listed(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def load(reference: str, settings: TranslatorSettings) -> Translator:
    """Loads the file called ``reference``, as :meth:`OnnxTranslator.load` does."""
    return OnnxTranslator.load(Path(reference).expanduser(), device=settings.device)
