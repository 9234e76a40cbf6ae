"""ONNX networks: every role, layout and scale against plain numpy, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from sim_bridge.errors import TranslatorError, UsageError  # noqa: E402
from sim_bridge.translators import Style, Translator  # noqa: E402
from sim_bridge.translators.load import load_translator  # noqa: E402
from sim_bridge.translators.onnx import OnnxTranslator  # noqa: E402
from sim_bridge.translators.onnx_sidecar import Sidecar  # noqa: E402
from tests.sim_bridge.translators.shots import translate  # noqa: E402

ByteArray = npt.NDArray[np.uint8]
CLASSES = ["road", "sky", "car"]
RGB = {"name": "x", "role": "rgb"}


def save(
    folder: Path,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, Sequence[Any]]],
    output: tuple[str, int, Sequence[Any]],
    sidecar: dict[str, Any] | str,
    weights: Sequence[Any] = (),
    **save_options: Any,
) -> Path:
    """Writes an ONNX file and its sidecar; returns the file's path."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(*entry) for entry in inputs],
        [helper.make_tensor_value_info(*output)],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = folder / "net.onnx"
    onnx.save(model, str(path), **save_options)
    text = sidecar if isinstance(sidecar, str) else yaml.safe_dump(sidecar)
    path.with_suffix(".yaml").write_text(text)
    return path


def identity(
    folder: Path,
    sidecar: dict[str, Any] | str,
    shape: Sequence[Any] = ("b", 3, "h", "w"),
    kind: int = TensorProto.FLOAT,
) -> Path:
    return save(folder, [helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], ("y", kind, shape), sidecar)


def street(batch: int = 2, height: int = 10, width: int = 14) -> tuple[ByteArray, ByteArray]:
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (batch, height, width, 3), np.uint8)
    return rgb, rng.integers(0, len(CLASSES), (batch, height, width), np.uint8)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize(
    "scale",
    [
        {},
        {"range": [-1, 1]},
        {"range": [0, 255]},
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"range": [0, 255], "mean": [103.5, 116.3, 123.7]},
    ],
)
def test_identity_network_gives_back_the_picture(
    tmp_path: Path, layout: str, channels: str, scale: dict[str, Any]
) -> None:
    shape = ("b", 3, "h", "w") if layout == "nchw" else ("b", "h", "w", 3)
    tensor = {"layout": layout, "channels": channels, **scale}
    path = identity(tmp_path, {"inputs": [{**RGB, **tensor}], "output": {"name": "y", **tensor}}, shape)
    rgb, labels = street()
    answer = translate(OnnxTranslator.load(path), rgb, labels, Style())
    np.testing.assert_array_equal(answer.rgb, rgb)
    assert answer.rgb.flags.c_contiguous and answer.edges is None


def test_input_scale_is_range_then_mean_and_std_in_channel_order(tmp_path: Path) -> None:
    """The network sees what the sidecar says; the output's other scale shows what that was."""
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    spec = {**RGB, "range": [-1, 1], "mean": mean, "std": std, "channels": "bgr"}
    path = identity(tmp_path, {"inputs": [spec], "output": {"name": "y", "range": [-10, 10]}})
    rgb = np.full((1, 2, 2, 3), (10, 100, 200), np.uint8)
    seen = translate(OnnxTranslator.load(path), rgb, np.zeros((1, 2, 2), np.uint8), Style()).rgb[0, 0, 0]
    value = ((np.array([200, 100, 10]) / 127.5 - 1) - mean) / std
    np.testing.assert_array_equal(seen, np.rint((value + 10) / 20 * 255))


def test_out_of_range_answers_are_clipped(tmp_path: Path) -> None:
    path = identity(tmp_path, {"inputs": [{**RGB, "range": [-3, 3]}], "output": {"name": "y", "range": [-1, 1]}})
    rgb = np.zeros((1, 1, 2, 3), np.uint8)
    rgb[0, 0, 1] = 255
    seen = translate(OnnxTranslator.load(path), rgb, np.zeros((1, 1, 2), np.uint8), Style()).rgb
    np.testing.assert_array_equal(seen, rgb)


def test_bytes_and_half_floats(tmp_path: Path) -> None:
    rgb, labels = street()
    for kind, limits in ((TensorProto.UINT8, [0, 255]), (TensorProto.FLOAT16, [0, 1])):
        tensor = {"range": limits}
        path = identity(tmp_path, {"inputs": [{**RGB, **tensor}], "output": {"name": "y", **tensor}}, kind=kind)
        np.testing.assert_array_equal(translate(OnnxTranslator.load(path), rgb, labels, Style()).rgb, rgb)


@pytest.mark.parametrize("scale", [{}, {"range": [-1, 1]}, {"range": [0, 255], "mean": [0.5, 0.5, 0.5]}])
def test_scales_that_whole_numbers_cannot_hold_are_refused(tmp_path: Path, scale: dict[str, Any]) -> None:
    path = identity(
        tmp_path,
        {"inputs": [{**RGB, **scale}], "output": {"name": "y", "range": [0, 255]}},
        kind=TensorProto.UINT8,
    )
    with pytest.raises(TranslatorError, match="whole numbers"):
        OnnxTranslator.load(path)


@pytest.mark.parametrize("layout", ["nhw", "nchw", "nhwc"])
def test_label_ids_reach_the_network(tmp_path: Path, layout: str) -> None:
    """ids * 100 on all three channels."""
    shapes = {"nhw": ("b", "h", "w"), "nchw": ("b", 1, "h", "w"), "nhwc": ("b", "h", "w", 1)}
    axis = {"nhw": 1, "nchw": None, "nhwc": None}[layout]
    nodes = [helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT)]
    last = "f"
    if axis is not None:
        nodes.append(helper.make_node("Unsqueeze", ["f", "one"], ["u"]))
        last = "u"
    concat = 3 if layout == "nhwc" else 1
    nodes += [
        helper.make_node("Concat", [last] * 3, ["c"], axis=concat),
        helper.make_node("Mul", ["c", "hundred"], ["y"]),
    ]
    out_layout = "nhwc" if layout == "nhwc" else "nchw"
    out_shape = ("b", "h", "w", 3) if layout == "nhwc" else ("b", 3, "h", "w")
    path = save(
        tmp_path,
        nodes,
        [("ids", TensorProto.INT64, shapes[layout])],
        ("y", TensorProto.FLOAT, out_shape),
        {
            "classes": CLASSES,
            "inputs": [{"name": "ids", "role": "labels", "layout": layout}],
            "output": {"name": "y", "range": [0, 255], "layout": out_layout},
        },
        [
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([100], np.float32), "hundred"),
        ],
    )
    rgb, labels = street()
    translator = OnnxTranslator.load(path)
    assert translator.classes == tuple(CLASSES)
    answer = translate(translator, rgb, labels, Style()).rgb
    np.testing.assert_array_equal(answer, np.repeat(labels[..., None] * np.uint8(100), 3, axis=3))


def test_onehot_planes_are_the_classes(tmp_path: Path) -> None:
    """With three classes the one-hot planes themselves are a picture."""
    path = save(
        tmp_path,
        [helper.make_node("Identity", ["planes"], ["y"])],
        [("planes", TensorProto.FLOAT, ("b", 3, "h", "w"))],
        ("y", TensorProto.FLOAT, ("b", 3, "h", "w")),
        {"classes": CLASSES, "inputs": [{"name": "planes", "role": "onehot"}], "output": {"name": "y"}},
    )
    rgb, labels = street()
    answer = translate(OnnxTranslator.load(path), rgb, labels, Style()).rgb
    np.testing.assert_array_equal(answer, np.eye(3, dtype=np.uint8)[labels] * np.uint8(255))


def test_edges_are_the_bundles_own_operator(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from models.edges import EdgeSettings, LaplacianEdges

    path = save(
        tmp_path,
        [helper.make_node("Concat", ["e", "e", "e"], ["y"], axis=1)],
        [("e", TensorProto.FLOAT, ("b", 1, "h", "w"))],
        ("y", TensorProto.FLOAT, ("b", 3, "h", "w")),
        {
            "inputs": [{"name": "e", "role": "edges", "range": [-1, 1], "operator": {"threshold": 60.0}}],
            "output": {"name": "y", "range": [-1, 1]},
        },
    )
    rgb, labels = street()
    answer = translate(OnnxTranslator.load(path), rgb, labels, Style())
    expected = LaplacianEdges(EdgeSettings(threshold=60.0))(torch.tensor(rgb)).numpy()[:, 0]
    assert 0.05 < expected.mean() < 0.95
    assert answer.edges is not None
    np.testing.assert_array_equal(answer.edges, expected * np.uint8(255))
    np.testing.assert_array_equal(answer.rgb[..., 1], answer.edges)


def test_sizes_are_padded_to_the_multiple_by_repeating_and_cropped(tmp_path: Path) -> None:
    """The network halves and doubles, so it would fail or answer another size without padding to 8."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Resize", ["p", "", "scales"], ["y"], mode="nearest"),
    ]
    scales = numpy_helper.from_array(np.array([1, 1, 8, 8], np.float32), "scales")
    shape = ("b", 3, "h", "w")
    sidecar = {"multiple": 8, "inputs": [RGB], "output": {"name": "y"}}
    path = save(tmp_path, nodes, [("x", 1, shape)], ("y", 1, ("b", 3, "i", "j")), sidecar, [scales])
    rgb = np.zeros((1, 11, 13, 3), np.uint8)
    rgb[:, 8:, 8:] = 200
    answer = translate(OnnxTranslator.load(path), rgb, np.zeros((1, 11, 13), np.uint8), Style()).rgb
    np.testing.assert_array_equal(answer, rgb)

    path.with_suffix(".yaml").write_text(yaml.safe_dump({**sidecar, "multiple": 1}))
    with pytest.raises(TranslatorError, match="check 'multiple'"):
        translate(OnnxTranslator.load(path), rgb, np.zeros((1, 11, 13), np.uint8), Style())


def test_a_batch_of_one_is_fed_one_by_one(tmp_path: Path) -> None:
    path = identity(tmp_path, {"inputs": [RGB], "output": {"name": "y"}}, (1, 3, "h", "w"))
    rgb, labels = street(batch=3)
    np.testing.assert_array_equal(translate(OnnxTranslator.load(path), rgb, labels, Style()).rgb, rgb)


def test_a_fixed_size_is_told(tmp_path: Path) -> None:
    path = identity(tmp_path, {"inputs": [RGB], "output": {"name": "y"}, "multiple": 32}, (1, 3, 10, 14))
    translator = OnnxTranslator.load(path)
    rgb, labels = street(batch=1)
    np.testing.assert_array_equal(translate(translator, rgb, labels, Style()).rgb, rgb)
    with pytest.raises(TranslatorError, match="takes 14x10 only and got 16x10: use --size 14x10"):
        translate(translator, np.zeros((1, 10, 16, 3), np.uint8), np.zeros((1, 10, 16), np.uint8), Style())
    with pytest.raises(TranslatorError, match="14x10"):
        translator.warm_up([(512, 256)])


def test_identity_of_the_model_is_the_files_hash(tmp_path: Path) -> None:
    path = identity(tmp_path, {"inputs": [RGB], "output": {"name": "y"}})
    translator = OnnxTranslator.load(path)
    assert isinstance(translator, Translator)
    assert translator.model_id == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert (translator.name, translator.provider) == ("net", "CPUExecutionProvider")


def test_load_translator_finds_the_onnx_file(tmp_path: Path) -> None:
    path = identity(tmp_path, {"inputs": [RGB], "output": {"name": "y"}})

    class Settings:
        bundle, device, precision = str(path), "cpu", "auto"

    assert load_translator(Settings()).name == "net"


def weighted(folder: Path, sidecar: dict[str, Any]) -> Path:
    kernel = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "kernel")
    shape = ("b", 3, "h", "w")
    return save(
        folder,
        [helper.make_node("Conv", ["x", "kernel"], ["y"])],
        [("x", 1, shape)],
        ("y", 1, shape),
        sidecar,
        [kernel],
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )


def test_external_weights_are_part_of_the_identity(tmp_path: Path) -> None:
    path = weighted(tmp_path, {"inputs": [RGB], "output": {"name": "y"}, "external_data": ["net.data"]})
    rgb, labels = street()
    first = OnnxTranslator.load(path)
    np.testing.assert_array_equal(translate(first, rgb, labels, Style()).rgb, rgb)
    data = tmp_path / "net.data"
    data.write_bytes((np.frombuffer(data.read_bytes(), np.float32) * 2).tobytes())
    assert OnnxTranslator.load(path).model_id != first.model_id


def test_undeclared_external_weights_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from beside the file nor from the working folder."""
    path = weighted(tmp_path, {"inputs": [RGB], "output": {"name": "y"}})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TranslatorError, match="external_data"):
        OnnxTranslator.load(path)


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ({"inputs": [RGB], "output": {"name": "y"}, "exec": "rm"}, "'exec' is unknown"),
        ({"inputs": [{**RGB, "scale": 2}], "output": {"name": "y"}}, "scale' is unknown"),
        ({"inputs": [{**RGB, "role": "depth"}], "output": {"name": "y"}}, "depth"),
        ({"inputs": [{**RGB, "range": [1, 0]}], "output": {"name": "y"}}, "low < high"),
        ({"inputs": [{**RGB, "std": [1, 0, 1]}], "output": {"name": "y"}}, "above 0"),
        ({"inputs": [{**RGB, "layout": "chw"}], "output": {"name": "y"}}, "'chw'"),
        ({"inputs": [], "output": {"name": "y"}}, "'inputs'"),
        ({"inputs": [RGB, RGB], "output": {"name": "y"}}, "same name"),
        ({"inputs": [{"name": "x", "role": "onehot"}], "output": {"name": "y"}}, "'classes'"),
        ({"inputs": [RGB], "output": {"name": "y"}, "classes": ["a", "a"]}, "once only"),
        ({"inputs": [RGB], "output": {"name": "y"}, "external_data": ["/etc/passwd"]}, "plain name"),
        ({"inputs": [RGB], "output": {"name": "y"}, "external_data": ["../net.data"]}, "plain name"),
        ({"inputs": [RGB], "output": {"name": "y"}, "external_data": ["a\\b"]}, "plain name"),
        ({"inputs": [{"name": "z", "role": "rgb"}], "output": {"name": "y"}}, "names the inputs 'z'.*has 'x'"),
        ({"inputs": [RGB], "output": {"name": "z"}}, "names the output 'z'.*has 'y'"),
        (
            {"inputs": [RGB, {"name": "e", "role": "edges"}, {"name": "f", "role": "edges"}], "output": {"name": "y"}},
            "only one",
        ),
        ({"inputs": [{**RGB, "layout": "nhwc"}], "output": {"name": "y"}}, "layout 'nhwc'.*means 3"),
        ({"inputs": [{"name": "x", "role": "labels"}], "output": {"name": "y"}, "classes": ["a"]}, "4 axes"),
        ("inputs: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("[1, 2]", "cannot be used"),
        ("", "cannot be used"),
        ("a: &a [" * 3000, "is not YAML"),
    ],
)
def test_wrong_sidecars_are_one_sentence(tmp_path: Path, sidecar: dict[str, Any] | str, words: str) -> None:
    path = identity(tmp_path, sidecar, ("b", 3, "h", 14))
    with pytest.raises(TranslatorError, match=words) as caught:
        OnnxTranslator.load(path)
    assert "\n" not in str(caught.value)


def test_a_forgotten_input_is_named(tmp_path: Path) -> None:
    shape = ("b", 3, "h", "w")
    path = save(
        tmp_path,
        [helper.make_node("Add", ["x", "noise"], ["y"])],
        [("x", 1, shape), ("noise", 1, shape)],
        ("y", 1, shape),
        {"inputs": [RGB], "output": {"name": "y"}},
    )
    with pytest.raises(TranslatorError, match="does not say what the inputs 'noise' are"):
        OnnxTranslator.load(path)


def test_a_fixed_batch_above_one_is_refused(tmp_path: Path) -> None:
    path = identity(tmp_path, {"inputs": [RGB], "output": {"name": "y"}}, (4, 3, "h", "w"))
    with pytest.raises(TranslatorError, match="fixed batch"):
        OnnxTranslator.load(path)


def test_the_documented_sidecar_is_one() -> None:
    page = Path(__file__).parents[3] / "docs" / "onnx.md"
    _, example, *_ = page.read_text(encoding="utf-8").split("```yaml\n")
    sidecar = Sidecar.model_validate(yaml.safe_load(example.partition("```")[0]))
    assert [spec.role for spec in sidecar.inputs] == ["rgb", "onehot"] and sidecar.multiple == 32


def test_missing_and_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(UsageError, match="No such file"):
        OnnxTranslator.load(path)
    path.write_bytes(b"\x80\x04pickle, not protobuf")
    with pytest.raises(TranslatorError, match="sidecar"):
        OnnxTranslator.load(path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"inputs": [RGB], "output": {"name": "y"}}))
    with pytest.raises(TranslatorError, match="cannot be loaded"):
        OnnxTranslator.load(path)


def test_nan_is_not_published(tmp_path: Path) -> None:
    shape = ("b", 3, "h", "w")
    path = save(
        tmp_path,
        [helper.make_node("Div", ["x", "x"], ["y"])],
        [("x", 1, shape)],
        ("y", 1, shape),
        {"inputs": [RGB], "output": {"name": "y"}},
    )
    with pytest.raises(TranslatorError, match="no numbers"):
        translate(OnnxTranslator.load(path), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.uint8), Style())


def test_cuda_without_the_provider_says_what_to_install(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    path = identity(tmp_path, {"inputs": [RGB], "output": {"name": "y"}})
    with pytest.raises(UsageError, match="onnxruntime-gpu"):
        OnnxTranslator.load(path, device="cuda:0")


def test_every_batch_that_will_come_is_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = {"inputs": [RGB], "output": {"name": "y", "range": [-1, 1]}}
    translator = OnnxTranslator.load(identity(tmp_path, sidecar))
    ran: list[tuple[int, ...]] = []
    run = translator._run

    def watching(rgb: ByteArray, labels: ByteArray) -> tuple[ByteArray, ByteArray | None]:
        ran.append(rgb.shape)
        return run(rgb, labels)

    monkeypatch.setattr(translator, "_run", watching)
    translator.warm_up([(14, 10)], batch=3)
    assert ran == [(1, 10, 14, 3), (2, 10, 14, 3), (3, 10, 14, 3)]
