"""A file that is empty, or Git LFS's pointer, says so wherever files are read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.bundles.files import CARD, WEIGHTS, ZOO, load_bundle, load_tensors
from models.bundles.published import load_published
from models.content import missing_content, missing_file_content
from sim_bridge.frames import Kind
from sim_bridge.recordings.inputs import read_inputs
from sim_bridge.recordings.read import Folder, RecordedFrame
from sim_bridge.translators.onnx import OnnxTranslator
from tests.sim_bridge.bridge_helpers import make_frame
from trainers.data.read import read_flow
from trainers.loop.run_folder import RunFolder

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
CONTENTS = [
    (b"", "is empty.*: fetch or write it again"),
    (POINTER, "pointer to a file and not the file.*: run git lfs pull"),
]


def _bundle(folder: Path, name: str, data: bytes) -> None:
    shutil.copytree(ZOO / "camvid-lite", folder / "bundle")
    (folder / "bundle" / name).write_bytes(data)
    load_bundle(folder / "bundle")


def _tensors(folder: Path, data: bytes) -> None:
    (folder / "training.safetensors").write_bytes(data)
    load_tensors(folder / "training.safetensors")


def _published(folder: Path, data: bytes) -> None:
    (folder / "vgg.pth").write_bytes(data)
    load_published("https://example.org/vgg.pth", folder / "vgg.pth", "vgg")


def _onnx(folder: Path, data: bytes) -> None:
    (folder / "network.onnx").write_bytes(data)
    OnnxTranslator.load(folder / "network.onnx")


def _checkpoint(folder: Path, data: bytes) -> None:
    run = RunFolder(folder / "run", resume=False)
    run.checkpoint.write_bytes(data)
    run.load()


def _flow(folder: Path, data: bytes) -> None:
    (folder / "flow.npy").write_bytes(data)
    read_flow(folder / "flow.npy")


def _depth(folder: Path, data: bytes) -> None:
    (folder / "depth.npy").write_bytes(data)
    rgb = make_frame(Kind.RGB, 1)
    read_inputs(RecordedFrame("camera", 1, None, None, {Folder.DEPTH: folder / "depth.npy"}), rgb, [Kind.DEPTH])


@pytest.mark.parametrize(("data", "sentence"), CONTENTS)
@pytest.mark.parametrize(
    "read",
    [
        lambda folder, data: _bundle(folder, WEIGHTS, data),
        lambda folder, data: _bundle(folder, CARD, data),
        _tensors,
        _published,
        _onnx,
        _checkpoint,
        _flow,
        _depth,
    ],
    ids=["weights", "card", "training", "published", "onnx", "checkpoint", "flow", "depth"],
)
def test_what_holds_nothing_says_so(
    read: Callable[[Path, bytes], None], data: bytes, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=sentence):
        read(tmp_path, data)


def test_all_else_is_somebody_elses_matter(tmp_path: Path) -> None:
    assert missing_content(b"\x89PNG") is None
    assert missing_file_content(tmp_path / "none") is None
    assert missing_file_content(tmp_path) is None


def test_a_byte_order_mark_before_a_card_is_read_over(tmp_path: Path) -> None:
    shutil.copytree(ZOO / "camvid-lite", tmp_path / "bundle")
    card = tmp_path / "bundle" / CARD
    card.write_bytes(b"\xef\xbb\xbf" + card.read_bytes())
    assert load_bundle(tmp_path / "bundle").card == load_bundle("camvid-lite").card
