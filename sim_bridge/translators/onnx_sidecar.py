"""The YAML file beside an ONNX file: what each of its tensors means (docs/onnx.md)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sim_bridge.errors import TranslatorError
from sim_bridge.mistakes import Mistake, first_mistake

MAX_SIDECAR_BYTES: Final = 1 << 20

ImageLayout = Literal["nchw", "nhwc"]
PlaneLayout = Literal["nhw", "nchw", "nhwc"]
Affine = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Scaled(_Table):
    """A tensor of scaled bytes: 0..255 goes linearly to ``range``."""

    range: tuple[float, float] = (0.0, 1.0)

    @field_validator("range")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError("a range is written [low, high] with low < high")
        return value

    def affine(self) -> Affine:
        """``(scale, offset)``, each ``(1,)``: value = byte * scale + offset."""
        low, high = self.range
        return np.asarray([(high - low) / 255.0], np.float32), np.asarray([low], np.float32)


class _Picture(_Scaled):
    """A colour picture; after the range comes ``(value - mean) / std`` per channel."""

    name: str
    layout: ImageLayout = "nchw"
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0:
            raise ValueError("every std must be above 0")
        return value

    def affine(self) -> Affine:
        """``(scale, offset)``, each ``(3,)`` in the tensor's channel order: value = byte * scale + offset."""
        low, high = self.range
        std = np.asarray(self.std, np.float64)
        scale = (high - low) / 255.0 / std
        offset = (low - np.asarray(self.mean, np.float64)) / std
        return scale.astype(np.float32), offset.astype(np.float32)


class RgbInput(_Picture):
    """The CG picture."""

    role: Literal["rgb"]


class LabelsInput(_Table):
    """Class ids, as numbers into the sidecar's ``classes``."""

    role: Literal["labels"]
    name: str
    layout: PlaneLayout = "nhw"


class OnehotInput(_Table):
    """One plane per class, 1 where the pixel is of that class and 0 elsewhere."""

    role: Literal["onehot"]
    name: str
    layout: ImageLayout = "nchw"


class EdgeOperator(_Table):
    """Settings of the Laplacian edge operator, as in a bundle's card; the default is the plain one."""

    threshold: float = Field(25.0, ge=0)
    blur: float = Field(0.0, ge=0)
    kernel: Literal[1, 3] = 1
    contrast_window: int = Field(0, ge=0, le=63)
    contrast_floor: float = Field(6.0, gt=0)

    @field_validator("contrast_window")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value and (value % 2 == 0 or value < 3):
            raise ValueError("it must be 0 or odd from 3 to 63")
        return value


class EdgesInput(_Scaled):
    """The edge map of the CG picture: the low end of ``range`` where there is none, the high end where there is."""

    role: Literal["edges"]
    name: str
    layout: PlaneLayout = "nchw"
    operator: EdgeOperator = EdgeOperator()


class Output(_Picture):
    """The photoreal picture; ``range``, ``mean`` and ``std`` say how it is scaled and are undone."""


Input = Annotated[RgbInput | LabelsInput | OnehotInput | EdgesInput, Field(discriminator="role")]


class Sidecar(_Table):
    """All of a sidecar file.

    Attributes:
        inputs: Every input of the network, in any order.
        output: The one output that is the picture; others are not computed.
        classes: Canonical class names by id; needed when an input is labels or one-hot.
        multiple: Width and height are padded up to a multiple of this and the picture is cropped back.
        external_data: Files of weights beside the ONNX file that belong to it.
    """

    inputs: tuple[Input, ...] = Field(min_length=1)
    output: Output
    classes: tuple[str, ...] = ()
    multiple: int = Field(1, ge=1, le=1024)
    external_data: tuple[str, ...] = ()

    @field_validator("classes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > 256:
            raise ValueError(f"{len(value)} classes are more than the 256 a label image can hold")
        if len(set(value)) != len(value):
            raise ValueError("every class may be named once only")
        return value

    @field_validator("external_data")
    @classmethod
    def _beside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in ("", ".", "..") or {PurePosixPath(name).name, PureWindowsPath(name).name} != {name}:
                raise ValueError(f"{name!r} must be the plain name of a file in the same folder, without '/' or '..'")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Sidecar:
        names = [tensor.name for tensor in self.inputs]
        if len(set(names)) != len(names):
            raise ValueError("two inputs have the same name")
        if sum(tensor.role == "edges" for tensor in self.inputs) > 1:
            raise ValueError("only one input may have the role edges")
        if not self.classes and any(tensor.role in ("labels", "onehot") for tensor in self.inputs):
            raise ValueError("an input with role labels or onehot needs the list 'classes'")
        return self


def read_sidecar(path: Path) -> Sidecar:
    """Reads and checks a sidecar.

    Raises TranslatorError when the file is missing, not YAML, or says something that is not allowed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise TranslatorError(
            f"the sidecar {path} cannot be read ({error.strerror}): write one as docs/onnx.md shows"
        ) from error
    if len(data) > MAX_SIDECAR_BYTES:
        raise TranslatorError(f"the sidecar {path} is larger than {MAX_SIDECAR_BYTES} bytes: it is not a sidecar")
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise TranslatorError(f"the sidecar {path} is not YAML ({detail}): compare it with docs/onnx.md") from error
    try:
        return Sidecar.model_validate(content)
    except ValidationError as error:
        raise TranslatorError(f"the sidecar {path} cannot be used: {_sentence(first_mistake(error))}") from error


def _sentence(mistake: Mistake) -> str:
    if mistake.kind == "extra_forbidden":
        return f"the key {mistake.place!r} is unknown: docs/onnx.md lists those that are known"
    return str(mistake)
