"""Batches: in order as they always were, by number whoever makes them; workers that fail are one sentence."""

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from models.edges import EdgeSettings, LaplacianEdges
from sim_bridge.errors import ImageError, LabelError, UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.labels import LabelMap, taxonomy
from tests.trainers.trees import draw_cityscapes
from trainers.batches.degrade import degrade
from trainers.batches.held import LazySample, open_samples
from trainers.batches.make import Batch
from trainers.batches.sample import Sample, load_all, prepare
from trainers.batches.sampler import Sampler
from trainers.batches.workers import NumberedSampler, make_sampler
from trainers.data.camvid import CAMVID_CLASSES, CamVid
from trainers.data.clips import FrameFiles
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.data.photograph import Inspection, Photograph
from trainers.errors import TrainingError
from trainers.loop import loop
from trainers.loop.run_folder import RunFolder
from trainers.loop.training import Training
from trainers.recipes.read import load_recipe
from trainers.recipes.sflow import SFlowRecipe

CONTRAST = EdgeSettings(threshold=0.11, blur=1.5, contrast_window=31, contrast_floor=6.0, signed=True)


pytestmark = pytest.mark.usefixtures("one_thread")


def resolve(recipe: Path, **data: Any) -> SFlowRecipe:
    return load_recipe(SFlowRecipe, str(recipe), {"data": {"crop": [64, 32], **data}})


def sampler(recipe: Path, root: Path, rank: int = 0, world_size: int = 1, **data: Any) -> Sampler:
    resolved = resolve(recipe, **data)
    opened = open_data(resolved.data, root, "train")
    samples = open_samples(opened, LaplacianEdges(resolved.edge), resolved.data)
    return make_sampler(samples, resolved, len(opened.classes), rank, world_size)


def draw(made: Sampler, count: int) -> list[tuple[Batch, tuple[slice, slice]]]:
    try:
        return [(made.draw(), made.loss_window(32, 64)) for _ in range(count)]
    finally:
        made.close()


def same(a: list[tuple[Batch, tuple[slice, slice]]], b: list[tuple[Batch, tuple[slice, slice]]]) -> bool:
    tensors = all(torch.equal(x, y) for (p, _), (q, _) in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))
    return tensors and [w for _, w in a] == [w for _, w in b]


def test_batches_in_order_are_what_they_always_were(recipe: Path, camvid: Path) -> None:
    """Every draw in the order in which shipped bundles were trained, written out once more."""
    resolved = resolve(recipe)
    samples = load_all(CamVid(camvid, "train"), LaplacianEdges(resolved.edge))
    made = Sampler(samples, resolved, 12)
    rng = np.random.default_rng(resolved.seed)
    assert resolved.edge_augmentation is not None
    for _ in range(3):
        crops = []
        for k in rng.integers(len(samples), size=resolved.batch):
            top, left = int(rng.integers(64 - 32 + 1)), int(rng.integers(96 - 64 + 1))
            crops.append(samples[k].crop(top, left, 32, 64, flip=bool(rng.random() < 0.5)))
        shown = [degrade(crop, resolved.edge_augmentation, 12, rng) for crop in crops]
        batch = made.draw()
        pictures = torch.from_numpy(np.stack([c.rgb for c in crops])).permute(0, 3, 1, 2)
        assert torch.equal(batch.x, pictures.float().div_(127.5).sub_(1))
        assert torch.equal(batch.s, torch.from_numpy(np.stack([c.labels for c in crops])))
        assert torch.equal(batch.e, torch.from_numpy(np.stack([c.edges for c in crops])).float())
        assert torch.equal(batch.e_degraded, torch.from_numpy(np.stack(shown)).float())
        rows, columns = made.loss_window(32, 64)
        assert (rows.start, columns.start) == (int(rng.integers(17)), int(rng.integers(17)))


@pytest.mark.parametrize("settings", [EdgeSettings(threshold=20), CONTRAST], ids=["paper", "contrast"])
def test_edges_of_a_window_are_those_of_the_whole_picture(camvid: Path, settings: EdgeSettings) -> None:
    operator = LaplacianEdges(settings)
    photograph = CamVid(camvid, "train")[0]
    whole = prepare(photograph, operator)
    for top, left, flip in ((0, 0, False), (32, 32, True), (13, 17, False), (5, 32, True)):
        expected = whole.crop(top, left, 32, 64, flip=flip)
        found = LazySample(photograph, operator).crop(top, left, 32, 64, flip=flip)
        for name, a, b in zip(expected._fields, expected, found, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert whole.edges.any()


def test_streamed_batches_do_not_depend_on_who_makes_them(recipe: Path, camvid: Path) -> None:
    alone = draw(sampler(recipe, camvid, memory="stream"), 5)
    assert same(alone, draw(sampler(recipe, camvid, memory="stream", workers=2), 5))
    assert same(alone, draw(sampler(recipe, camvid, memory="all", workers=1), 5))
    assert not same(alone[:1], alone[1:2])


def test_streaming_goes_on_in_the_middle(recipe: Path, camvid: Path) -> None:
    whole = draw(sampler(recipe, camvid, memory="stream"), 6)
    first = sampler(recipe, camvid, memory="stream", workers=2)
    assert same(whole[:2], draw(first, 2))
    state = first.state()
    assert state == {"number": 2}
    for workers in (0, 2):
        second = sampler(recipe, camvid, memory="stream", workers=workers)
        second.restore(state)
        assert same(whole[2:], draw(second, 4))
    assert same(whole[2:3], draw(first, 1))  # workers that were closed are started again where it stands


def test_checkpoints_of_the_other_way_to_draw_are_refused(recipe: Path, camvid: Path) -> None:
    in_order, by_number = sampler(recipe, camvid), sampler(recipe, camvid, memory="stream")
    assert type(in_order) is Sampler and isinstance(by_number, NumberedSampler)
    with pytest.raises(UsageError, match="were drawn by number"):
        in_order.restore(by_number.state())
    with pytest.raises(UsageError, match="were drawn in order"):
        by_number.restore(in_order.state())


@pytest.mark.parametrize("data", [{}, {"memory": "stream"}, {"scale": [1.0, 1.4]}], ids=["order", "number", "scaled"])
def test_shares_of_processes_make_the_batch(recipe: Path, camvid: Path, data: dict[str, Any]) -> None:
    whole = draw(sampler(recipe, camvid, **data), 3)
    parts = [draw(sampler(recipe, camvid, rank, 2, **data), 3) for rank in (0, 1)]
    for (batch, window), (first, one), (second, other) in zip(whole, *parts, strict=True):
        assert all(torch.equal(t, torch.cat(p)) for t, p in zip(batch, zip(first, second, strict=True), strict=True))
        assert window == one == other
    with pytest.raises(UsageError, match="batch 2 cannot be shared out evenly among 3 processes"):
        sampler(recipe, camvid, 0, 3, **data)


# Augmentation


def test_colour_changes_the_picture_and_nothing_else(recipe: Path, camvid: Path) -> None:
    plain, coloured = (
        draw(sampler(recipe, camvid, memory="stream", colour=c), 1)[0][0]
        for c in ({"gain": 0.0, "shift": 0.0}, {"gain": 0.3, "shift": 20})
    )
    assert torch.equal(plain.s, coloured.s) and torch.equal(plain.e, coloured.e)
    assert torch.equal(plain.e_degraded, coloured.e_degraded)
    change = (coloured.x - plain.x).abs()
    assert 0.01 < change.mean() < 0.5 and coloured.x.min() >= -1 and coloured.x.max() <= 1
    assert torch.equal(plain.x, draw(sampler(recipe, camvid, memory="stream"), 1)[0][0].x)


def test_pictures_are_not_mirrored_where_they_must_not_be(recipe: Path, camvid: Path) -> None:
    """The car stands right of the building in every picture of the set, and left of it in a mirrored one."""

    def mirrored(batch: Batch) -> int:
        columns = torch.arange(96.0)
        means = [[columns[(s == k).any(0)].mean() for k in (1, 8)] for s in batch.s]
        return sum(bool(building > car) for building, car in means)

    batches = {flip: draw(sampler(recipe, camvid, crop=[96, 64], flip=flip), 8) for flip in (True, False)}
    assert 3 <= sum(mirrored(b) for b, _ in batches[True]) <= 13
    assert sum(mirrored(b) for b, _ in batches[False]) == 0


@pytest.mark.parametrize("memory", ["all", "stream"])
def test_scaled_crops_stay_aligned(recipe: Path, camvid: Path, memory: str) -> None:
    made = sampler(recipe, camvid, memory=memory, scale=[1.5, 2.0], crop=[96, 64])
    batch = draw(made, 1)[0][0]
    operator = LaplacianEdges(EdgeSettings(threshold=20.0, signed=True))
    pictures = ((batch.x.permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8)
    again = operator(pictures).float()
    # Beside the crop's border the operator sees more of the picture in training than in the crop alone.
    assert torch.equal(again[..., 4:-4, 4:-4], batch.e[..., 4:-4, 4:-4]) and batch.e.any()
    car = 8
    assert all(int((s == car).sum()) <= 20 * 10 * 4 for s in batch.s)
    sizes = {int((s == car).sum()) for b, _ in draw(made, 4) for s in b.s}
    assert max(sizes) > 20 * 10 * 1.4**2


def test_a_crop_that_does_not_fit_is_a_sentence(recipe: Path, camvid: Path) -> None:
    with pytest.raises(UsageError, match=r"a picture is 96x64 when its crop is cut, but data\.crop is 128x64: lower"):
        sampler(recipe, camvid, crop=[128, 64]).draw()
    with pytest.raises(UsageError, match=r"a picture is 86x58 when"):
        sampler(recipe, camvid, crop=[96, 64], scale=[0.9, 0.9]).draw()


# What goes wrong in a worker


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_cannot_be_read_is_named(recipe: Path, camvid: Path, workers: int) -> None:
    for file in (camvid / "train").iterdir():
        file.write_bytes(b"no picture")
    made = sampler(recipe, camvid, memory="stream", workers=workers)
    with pytest.raises(ImageError, match=r"^[^\n]*train.0001A_000\d\.png .*neither PNG nor JPEG[^\n]*$"):
        made.draw()
    made.close()


def test_the_error_of_a_label_crosses_processes(recipe: Path, tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path)
    for file in (root / "gtFine" / "train").glob("*/*labelIds.png"):
        file.write_bytes((root / "leftImg8bit" / "train" / "ulm" / "ulm_000000_000019_leftImg8bit.png").read_bytes())
    made = sampler(recipe, root, kind="cityscapes", memory="stream", workers=1)
    with pytest.raises(LabelError, match=r"labelIds\.png: colour .* is not in the palette"):
        made.draw()
    made.close()


class Deadly(DataSet):
    """Ends the process that reads it, as a fault in a decoder or a lack of memory does."""

    classes, licence, credit, description = ("road", "unlabeled"), "none", "none", "none"

    def __init__(self, number: int, parent: int) -> None:
        self._number, self._parent = number, parent

    def __len__(self) -> int:
        return 1

    def frame(self, index: int) -> FrameFiles:
        table = LabelMap.build(taxonomy("camvid"), CAMVID_CLASSES)
        return FrameFiles("x", Path("deadly.png"), Path("deadly_labels.png"), table)

    def inspect_frame(self, frame: FrameFiles, *, flow: bool = False) -> Inspection:
        if os.getpid() != self._parent:
            os.kill(os.getpid(), self._number)
            signal.pause()  # never reached: the signal has no handler in a worker
        rgb = np.zeros((32, 64, 3), np.uint8)
        return Inspection(Photograph("x", rgb, rgb[..., 0].copy()), ())


def deadly(recipe: Path, number: int) -> Sampler:
    resolved = resolve(recipe, memory="stream", workers=1)
    samples = open_samples(Deadly(number, os.getpid()), LaplacianEdges(resolved.edge), resolved.data)
    return make_sampler(samples, resolved, 2)


def test_a_worker_that_crashes_names_the_file_it_read(recipe: Path) -> None:
    made = deadly(recipe, signal.SIGKILL)
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(TrainingError, match=r"died \(SIGKILL\) while it read deadly\.png and deadly_labels\.png: look"):
        made.draw()
    assert signal.getsignal(signal.SIGCHLD) is handler


class DeadlySample(NamedTuple):
    """Ends the process that cuts it."""

    labels: ByteArray

    @property
    def rgb(self) -> ByteArray:
        return np.zeros((*self.labels.shape, 3), np.uint8)

    @property
    def frames(self) -> "tuple[DeadlySample]":
        return (self,)

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_worker_that_is_killed_over_samples_in_memory_accuses_no_file(recipe: Path) -> None:
    resolved = resolve(recipe, workers=1)
    made = make_sampler([DeadlySample(np.zeros((32, 64), np.uint8))], resolved, 2)
    with pytest.raises(
        TrainingError, match=r"died \(SIGKILL\) while it cut crops from samples in memory: lower data\."
    ):
        made.draw()


@pytest.mark.slow
def test_a_worker_that_is_ended_does_not_end_the_training(recipe: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A scheduler's SIGTERM goes to the whole process group; the training finishes its step and saves."""
    made = deadly(recipe, signal.SIGTERM)
    with caplog.at_level(logging.WARNING):
        batch = made.draw()
    assert batch.s.shape == (2, 32, 64) and made.state() == {"number": 1}
    assert "was ended (SIGTERM): making batch 0 without" in caplog.text


# In a training


def train(recipe: Path, root: Path, run: Path, *, stop_at: int | None = None, **data: Any) -> Training:
    stages = [s.model_copy(update={"steps": 1}) for s in resolve(recipe).stages]
    resolved = resolve(recipe, **data).model_copy(update={"stages": tuple(stages)})
    opened = open_data(resolved.data, root, "train")
    samples = open_samples(opened, LaplacianEdges(resolved.edge), resolved.data)
    resume = run.is_dir()
    made = Training(resolved, samples, opened.classes, RunFolder(run, resume=resume))
    if resume:
        made.restore(made.folder.load())
    update = made.update_average

    def update_then_stop() -> None:
        update()
        if made.step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    made.update_average = update_then_stop  # type: ignore[method-assign]
    assert loop.train(made) is (stop_at is None)
    return made


def test_a_streaming_training_goes_on_bit_for_bit_with_other_workers(
    recipe: Path, camvid: Path, tmp_path: Path
) -> None:
    whole = train(recipe, camvid, tmp_path / "whole", memory="stream")
    train(recipe, camvid, tmp_path / "parts", memory="stream", workers=2, stop_at=1)
    parts = train(recipe, camvid, tmp_path / "parts", memory="stream", workers=1)
    for name, network in {**whole.system.networks, "average": whole.average}.items():
        other = parts.average if name == "average" else parts.system.networks[name]
        expected, found = network.state_dict(), other.state_dict()
        assert all(torch.equal(expected[k], found[k]) for k in expected), name
    rows = [json.loads(line) for line in (tmp_path / "parts" / "stats.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [1, 2, 3] and all(0 < r["wait"] < 1 for r in rows)


def test_the_share_of_waiting_is_measured(recipe: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100, 130, 200, 210, 300, 1000, 1050, 1100])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    made = sampler(recipe, camvid)
    made.draw()  # 100 to 130
    made.draw()  # 200 to 210
    assert made.wait_share() == pytest.approx(40 / 200)
    made.draw()  # 1000 to 1050
    assert made.wait_share() == pytest.approx(50 / 800)
