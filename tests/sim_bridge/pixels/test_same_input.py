"""Preprocessing exists once: a picture enters the network the same way from a training set and from the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

from models.edges import EdgeSettings, LaplacianEdges  # noqa: E402
from models.nets.sflow import SFlowNetwork  # noqa: E402
from sim_bridge import wire  # noqa: E402
from sim_bridge.frames import Encoding, Frame, Kind, PixelArray  # noqa: E402
from sim_bridge.pixels.preprocess import Preprocessor  # noqa: E402
from sim_bridge.translators import Shot  # noqa: E402
from sim_bridge.translators.device import Target  # noqa: E402
from sim_bridge.translators.sflow import SFlowTranslator  # noqa: E402
from trainers.batches.sample import load_all  # noqa: E402
from trainers.batches.sampler import Sampler  # noqa: E402
from trainers.data.camvid import CAMVID_CLASSES, CamVid  # noqa: E402
from trainers.recipes.sflow import SFlowRecipe  # noqa: E402

ByteArray = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 480, 352
PLAIN = EdgeSettings()
CONTRAST = EdgeSettings(threshold=0.11, blur=1.5, contrast_window=31, signed=True)


def write_camvid(root: Path) -> None:
    """One sample: a street of blocks with noise, so that thresholds and local contrast decide pixel by pixel."""
    rng = np.random.default_rng(8)
    ids = rng.integers(0, len(CAMVID_CLASSES), (HEIGHT // 16, WIDTH // 16), np.uint8).repeat(16, 0).repeat(16, 1)
    colors = rng.integers(0, 256, (len(CAMVID_CLASSES), 3), np.uint8)
    noisy = np.clip(colors[ids] + rng.normal(0, 12, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    for folder in ("train", "trainannot"):
        (root / folder).mkdir()
    assert cv2.imwrite(str(root / "train" / "a.png"), noisy)
    assert cv2.imwrite(str(root / "trainannot" / "a.png"), ids)


def received(kind: Kind, pixels: PixelArray, encoding: Encoding) -> Frame:
    """The frame as it comes out of the wire."""
    sent = Frame(
        "camera", kind, 1, 0.0, "s", encoding, WIDTH, HEIGHT, pixels, 1, "camvid" if kind is Kind.SEMANTIC else None
    )
    frame = wire.decode([bytes(part) for part in wire.encode(sent)], received=2)
    assert isinstance(frame, Frame)
    return frame


def payload(rgb: ByteArray, encoding: Encoding) -> PixelArray:
    bgr = rgb[..., ::-1].copy()
    match encoding:
        case Encoding.RGB8:
            return rgb
        case Encoding.BGR8:
            return bgr
        case Encoding.BGRA8:
            return np.concatenate([bgr, np.zeros((*bgr.shape[:2], 1), np.uint8)], 2)
        case _:
            done, data = cv2.imencode(".png", bgr)
            assert done
            return np.asarray(data.reshape(-1))


def training_input(root: Path, edge: EdgeSettings) -> tuple[Any, Any, Any]:
    """What a training batch holds of the picture: the real sampler, its crop as large as the picture, not mirrored."""
    stage = {"name": "a", "steps": 1, "generator_sees": "laplacian", "lr": 1e-3, "weights": {}}
    recipe = SFlowRecipe.model_validate(
        {"name": "a", "data": {"crop": [WIDTH, HEIGHT]}, "edge": edge, "batch": 8, "stages": [stage]}
    )
    data = CamVid(root, "train")
    batch = Sampler(load_all(data, LaplacianEdges(edge)), recipe, len(data.classes)).draw()
    (photograph,) = data
    first = next(i for i in range(8) if np.array_equal(batch.s[i].numpy(), photograph.labels))
    own = slice(first, first + 1)
    return batch.s[own], batch.e[own], hinting(edge).hints_of(batch.hint_rgb, batch.s)[own]  # type: ignore[index]


def hinting(edge: EdgeSettings) -> SFlowNetwork:
    """A network that takes colour hints of two of the classes, no more colourful than photographs are."""
    network = SFlowNetwork("lite", len(CAMVID_CLASSES), edge, hint_classes=(1, 8), keep_hues=True).eval()
    assert network.chroma_limits is not None
    network.chroma_limits.fill_(0.29)  # which bf16 has not
    return network


def bridge_input(
    rgb: ByteArray, ids: ByteArray, encoding: Encoding, edge: EdgeSettings, dtype: Any
) -> tuple[Any, Any, Any]:
    """What the network's forward gets when the pair comes through the bridge's own code."""
    prepared = Preprocessor(CAMVID_CLASSES, None).prepare(
        received(Kind.RGB, payload(rgb, encoding), encoding), received(Kind.SEMANTIC, ids, Encoding.MONO8)
    )
    network = hinting(edge)
    translator = SFlowTranslator(
        network, name="x", model_id="0" * 12, classes=CAMVID_CLASSES, target=Target(torch.device("cpu"), dtype)
    )
    seen: list[Any] = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    translator.translate([Shot("camera", "s", 1, 0.0, prepared.rgb, prepared.labels)])
    ((labels, edges, _, hints),) = seen
    return labels[:, :HEIGHT, :WIDTH], edges[:, :, :HEIGHT, :WIDTH], hints


@pytest.mark.parametrize("edge", [PLAIN, CONTRAST], ids=["plain", "contrast"])
@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [
        (Encoding.BGRA8, torch.float32),
        (Encoding.RGB8, torch.bfloat16),
        (Encoding.BGR8, torch.float32),
        (Encoding.PNG, torch.bfloat16),
    ],
    ids=str,
)
def test_training_and_bridge_feed_the_network_the_same_bits(
    tmp_path: Path, edge: EdgeSettings, encoding: Encoding, dtype: Any
) -> None:
    write_camvid(tmp_path)
    (photograph,) = CamVid(tmp_path, "train")
    trained_labels, trained_edges, trained_hints = training_input(tmp_path, edge)

    labels, edges, hints = bridge_input(photograph.rgb, photograph.labels, encoding, edge, dtype)

    assert labels.dtype == trained_labels.dtype and torch.equal(labels, trained_labels)
    assert edges.dtype == dtype and torch.equal(edges, trained_edges.to(dtype))
    assert torch.equal(hints, trained_hints) and 0 < hints[:, 3].mean() < 1
    assert 0.02 < trained_edges.float().mean() < 0.9 and np.unique(photograph.labels).size == len(CAMVID_CLASSES)
