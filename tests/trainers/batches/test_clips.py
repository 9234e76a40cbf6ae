"""Clips: one draw for all frames, exact flow that follows crop, flip and scale, frames held once, files named."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.edges import EdgeSettings, LaplacianEdges
from plugins.toytown.run.recorder import Recorder, Wanted
from plugins.toytown.run.setup import Look, Setup
from plugins.toytown.run.simulator import Simulator
from plugins.toytown.view.cameras import MOUNTS
from sim_bridge.errors import SizeMismatchError
from tests.trainers.batches.test_workers import Deadly, draw, resolve, same, sampler
from tests.trainers.trees import draw_cityscapes, draw_flowing
from trainers.batches.degrade import draw_degradation
from trainers.batches.draw import Place
from trainers.batches.held import ClipSample, InMemory, LazySample, OnDisk, open_samples
from trainers.batches.make import Batch, make_batch
from trainers.batches.sample import prepare
from trainers.batches.workers import make_sampler
from trainers.data.clips import Clip, FrameFiles
from trainers.data.open import open_data
from trainers.data.photograph import Inspection, Photograph
from trainers.errors import TrainingError
from trainers.recipes.schema import DataRecipe, EdgeAugmentation

pytestmark = pytest.mark.usefixtures("one_thread")
OPERATOR = LaplacianEdges(EdgeSettings(threshold=20, signed=True))
CLIPS: dict[str, Any] = {"kind": "recordings", "frames": 3}


@pytest.fixture
def flowing(tmp_path: Path) -> Path:
    """A recording of six frames with exact flow."""
    return draw_flowing(tmp_path / "flowing")


def warped(later: Tensor, flow: Tensor) -> npt.NDArray[np.float32]:
    """The later picture ``(3, H, W)`` as the earlier frame sees it by flow ``(2, H, W)``; 0..255, NaN where hidden."""
    picture = ((later.permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.float32)
    rows, columns = np.indices(picture.shape[:2], np.float32)
    u, v = flow.numpy()
    hidden = np.isnan(u)
    there = cv2.remap(
        picture, np.nan_to_num(columns + u), np.nan_to_num(rows + v), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.where(hidden[..., None], np.float32(np.nan), there)


def differences(batch: Batch, clip: int = 0) -> list[npt.NDArray[np.float32]]:
    """Grey levels between each frame and the next one, warped; where the flow is known."""
    pictures, motions = batch.by_clip(batch.x)[clip], batch.flow[clip]
    grey = (pictures.permute(0, 2, 3, 1).numpy() + 1) * 127.5
    found = [np.abs(warped(pictures[t + 1], motions[t]) - grey[t]) for t in range(len(motions))]
    return [d[np.isfinite(d)] for d in found]


# Flow


def moving_pair(shear: float, zoom: float, shift: tuple[float, float]) -> list[Photograph]:
    """Two frames of a pattern that moves by an affine map, with its exact flow."""
    rows, columns = np.indices((72, 104), np.float64) + 0.5
    matrix = np.array([[zoom, shear], [-shear, zoom]])

    def picture(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        waves = [np.sin(x / 4.1 + 1), np.sin(y / 4.7), np.sin((x + 2 * y) / 9)]
        return np.stack([127.5 + 60 * (w + waves[0] * waves[1]) for w in waves], 2).round().astype(np.uint8)

    x, y = (matrix @ np.stack([columns.ravel(), rows.ravel()])).reshape(2, *rows.shape) + np.reshape(shift, (2, 1, 1))
    flow = np.stack([x - columns, y - rows], 2).astype(np.float32)
    back = np.linalg.inv(matrix) @ (np.stack([columns.ravel(), rows.ravel()]) - np.reshape(shift, (2, 1)))
    labels = np.zeros(rows.shape, np.uint8)
    first = Photograph("0", picture(columns, rows), labels, flow=flow)
    return [first, Photograph("1", picture(*back.reshape(2, *rows.shape)), labels)]


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-0.05, 0.05),
    st.floats(0.95, 1.05),
    st.tuples(st.floats(-7, 7), st.floats(-7, 7)),
    st.sampled_from([0.9, 1.0, 1.3]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.booleans(),
)
def test_flow_stays_exact_under_crop_flip_and_scale(
    shear: float, zoom: float, shift: tuple[float, float], scale: float, corner: tuple[float, float], flip: bool
) -> None:
    clip = ClipSample(tuple(LazySample(photograph, OPERATOR) for photograph in moving_pair(shear, zoom, shift)))
    top, left = int(corner[0] * (round(72 * scale) - 48)), int(corner[1] * (round(104 * scale) - 64))
    batch = make_batch([clip], [Place(scale, top, left, flip, None)], [None], (64, 48))
    assert batch.flow.shape == (1, 1, 2, 48, 64)
    (difference,) = differences(batch)
    assert difference.mean() < 6  # a pixel's displacement is worth 20 levels
    u, v = batch.flow[0, 0]
    rows, columns = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    known = ~u.isnan()
    assert known.float().mean() > 0.3 and torch.equal(known, ~v.isnan())
    assert ((columns + u)[known] >= 0).all() and ((columns + u)[known] <= 64).all()
    assert ((rows + v)[known] >= 0).all() and ((rows + v)[known] <= 48).all()


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), st.integers(0, 24), st.integers(0, 40), st.booleans())
def test_flow_of_a_window_is_that_of_the_whole_picture(
    shift: tuple[float, float], top: int, left: int, flip: bool
) -> None:
    photograph = moving_pair(0.02, 1.0, shift)[0]
    lazy, whole = (
        source.crop(top, left, 48, 64, flip=flip)
        for source in (LazySample(photograph, OPERATOR), prepare(photograph, OPERATOR))
    )
    assert lazy.flow is not None and whole.flow is not None
    np.testing.assert_array_equal(lazy.flow, whole.flow)


def test_flow_of_a_toytown_recording_warps_the_next_frame_onto_this_one(recipe: Path, tmp_path: Path) -> None:
    simulator = Simulator(Setup(size=(192, 96), mounts=(MOUNTS["front"],)))
    recorder = Recorder(simulator, tmp_path / "train", Wanted((Look.PHOTO, Look.CG), flow=True))
    assert list(recorder.record(4, first=140)) == [140, 141, 142, 143]
    recorder.close()
    data = {"kind": "recordings", "frames": 3, "crop": [160, 64], "scale": [0.9, 1.3]}
    (batch, _), *_ = draw(sampler(recipe, tmp_path, **data), 1)
    assert batch.flow.shape == (2, 2, 2, 64, 160) and batch.frames == 3
    still, opposite = torch.where(batch.flow.isnan(), batch.flow, 0.0), -batch.flow
    for clip in range(2):
        moved, *others = (
            np.concatenate(differences(Batch(*[*batch[:7], flow]), clip)) for flow in (batch.flow, still, opposite)
        )
        assert np.median(moved) < 4 and moved.mean() < 7  # fine texture aliases at this size
        assert all(moved.mean() < 0.7 * other.mean() for other in others)


def test_flow_keeps_its_place_where_some_clips_have_none(recipe: Path, flowing: Path) -> None:
    """A recording without flow beside one with it: NaN, so that every batch has one shape."""
    for file in (flowing / "train" / "second" / "flow").iterdir():
        file.unlink()
    text = (flowing / "train" / "second" / "manifest.jsonl").read_text()
    (flowing / "train" / "second" / "manifest.jsonl").write_text(re.sub(r', "flow": "[^"]*"', "", text))
    for memory in ("all", "stream"):
        batches = [batch for batch, _ in draw(sampler(recipe, flowing, memory=memory, **CLIPS), 6)]
        known = torch.cat([batch.flow.isfinite().flatten(1).any(1) for batch in batches])
        assert {tuple(batch.flow.shape) for batch in batches} == {(2, 2, 2, 32, 64)}
        assert known.any() and not known.all()


def test_flow_reaches_to_the_next_frame_alone(recipe: Path, flowing: Path) -> None:
    (batch, _), *_ = draw(sampler(recipe, flowing, frame_step=2, **CLIPS), 1)
    assert batch.flow.shape == (2, 0, 2, 32, 64) and batch.frames == 3
    (batch, _), *_ = draw(sampler(recipe, flowing, kind="recordings"), 1)
    assert batch.flow.shape == (2, 0, 2, 32, 64) and batch.labelled.shape == (2, 1)


# One draw a clip


@pytest.mark.parametrize("scale", [None, [1.0, 1.5]], ids=["whole", "scaled"])
def test_everything_random_is_drawn_once_a_clip(camvid: Path, recipe: Path, scale: list[float] | None) -> None:
    """Three times the same photograph stays three times the same."""
    resolved = resolve(recipe, scale=scale, colour={"gain": 0.3, "shift": 20})
    single = open_samples(open_data(resolved.data, camvid, "train"), OPERATOR, resolved.data)
    clips = [ClipSample(tuple(s.frames) * 3) for s in single]
    for (batch, _), (alone, _) in zip(
        draw(make_sampler(clips, resolved, 12), 3), draw(make_sampler(list(single), resolved, 12), 3), strict=True
    ):
        assert batch.frames == 3 and batch.x.shape == (6, 3, 32, 64) and len(batch.s) == 6
        for name, tensor, expected in zip(Batch._fields[:6], batch, alone, strict=False):
            assert torch.equal(tensor, alone.per_frame(expected).repeat_interleave(3, 0)), name
        assert torch.equal(batch.by_clip(batch.e_degraded)[:, 0], alone.e_degraded)


def test_a_degradation_falls_on_the_same_places_of_all_frames(flowing: Path, recipe: Path) -> None:
    resolved = resolve(recipe, **CLIPS)
    clip = open_samples(open_data(resolved.data, flowing, "train"), OPERATOR, resolved.data)[0]
    settings = EdgeAugmentation(holes_share=1, holes=0.5, bare_class=0, speck_share=0, class_threshold=0)
    drawn = draw_degradation(settings, 21, np.random.default_rng(0))
    batch = make_batch([clip], [Place(1, 0, 0, False, None)], [drawn], (96, 64))
    assert drawn.holes is not None
    holes = torch.from_numpy(cv2.resize(drawn.holes, (96, 64), interpolation=cv2.INTER_NEAREST)) > 0
    assert batch.e[..., holes].any() and not batch.e_degraded[..., holes].any()
    assert all(frame[..., ~holes].any() for frame in batch.e_degraded)


# Tensors


def test_parts_are_clips(recipe: Path, flowing: Path) -> None:
    (batch, _), *_ = draw(sampler(recipe, flowing, **CLIPS), 1)
    parts = [batch.part(slice(i, i + 1)) for i in range(2)]
    assert all(part.frames == 3 and part.labelled.shape == (1, 3) and len(part.s) == 3 for part in parts)
    assert all(torch.equal(torch.cat(p).nan_to_num(9), t.nan_to_num(9)) for t, *p in zip(batch, *parts, strict=True))
    assert torch.equal(batch.per_frame(torch.tensor([[1], [2]])), torch.tensor([[1]] * 3 + [[2]] * 3))
    moved = batch.to(torch.device("cpu"))
    assert moved.x.is_contiguous(memory_format=torch.channels_last) and moved.by_clip(moved.x).shape[:2] == (2, 3)
    assert torch.equal(moved.part(slice(1, 2)).x, parts[1].x)


@pytest.mark.parametrize("data", [{}, {"memory": "stream"}, {"scale": [1.0, 1.4]}], ids=["order", "number", "scaled"])
def test_shares_of_processes_make_the_batch_of_clips(recipe: Path, flowing: Path, data: dict[str, Any]) -> None:
    whole = draw(sampler(recipe, flowing, **CLIPS, **data), 2)
    parts = [draw(sampler(recipe, flowing, rank, 2, **CLIPS, **data), 2) for rank in (0, 1)]
    for (batch, _), (first, _), (second, _) in zip(whole, *parts, strict=True):
        for name, tensor, pair in zip(Batch._fields, batch, zip(first, second, strict=True), strict=True):
            torch.testing.assert_close(torch.cat(pair), tensor, rtol=0, atol=0, equal_nan=True, msg=name)


def test_workers_make_the_same_clips(recipe: Path, flowing: Path) -> None:
    data = {**CLIPS, "frame_step": 2}  # without flow, as NaN equals nothing
    alone = draw(sampler(recipe, flowing, memory="stream", **data), 3)
    assert same(alone, draw(sampler(recipe, flowing, memory="stream", workers=2, **data), 3))
    assert same(alone, draw(sampler(recipe, flowing, workers=1, **data), 3))


def test_frames_without_labels_are_void(recipe: Path, tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path, neighbours=range(18, 21))
    data = {"kind": "cityscapes", "frames": 3, "labels": "none"}
    (batch, _), *_ = draw(sampler(recipe, root, **data), 1)
    assert batch.labelled.tolist() == [[False, True, False]] * 2
    labels = batch.by_clip(batch.s)
    assert (labels[:, [0, 2]] == 19).all() and (labels[:, 1] != 19).all()


# Memory and files


@pytest.mark.parametrize("scale", [None, (1.0, 1.5)])
def test_memory_holds_each_frame_once(flowing: Path, scale: tuple[float, float] | None) -> None:
    recipe = DataRecipe(kind="recordings", frames=3, crop=(64, 32), scale=scale)
    data = open_data(recipe, flowing, "train")
    read: list[Path] = []
    inspect = data.inspect_frame

    def counted(frame: FrameFiles, *, flow: bool = False) -> Inspection:
        read.append(frame.picture)
        return inspect(frame, flow=flow)

    data.inspect_frame = counted  # type: ignore[method-assign]
    samples = open_samples(data, OPERATOR, recipe)
    assert isinstance(samples, InMemory) and len(samples) == 8 and not read
    first, second = samples[0].frames, samples[1].frames
    assert first[1] is second[0] and first[2] is second[1]
    assert len(list(samples)) == 8 and sorted(read) == sorted({*read}) and len(read) == 12


@pytest.mark.parametrize("memory", ["all", "stream"])
def test_frames_of_a_clip_that_differ_in_size_are_one_sentence(recipe: Path, tmp_path: Path, memory: str) -> None:
    root = draw_cityscapes(tmp_path, neighbours=range(18, 21))
    for file in (root / "leftImg8bit_sequence").glob("*/*/*_000020_*"):
        cv2.imwrite(str(file), np.zeros((80, 160, 3), np.uint8))
    data: dict[str, Any] = {"kind": "cityscapes", "frames": 3, "labels": "none", "memory": memory}
    with pytest.raises(
        SizeMismatchError,
        match=r"^\S+000018_leftImg8bit\.png is 128x64 and \S+000020_leftImg8bit\.png is 160x80: [^\n]* data\.resize$",
    ):
        sampler(recipe, root, **data).draw()
    batch = sampler(recipe, root, resize=[96, 48], **data).draw()
    assert batch.x.shape == (6, 3, 32, 64)


class DeadlyVideo(Deadly):
    """Ends the process that reads a clip of it."""

    def __init__(self, number: int, parent: int) -> None:
        super().__init__(number, parent)
        table = self.frame(0).table
        files = (FrameFiles(name, Path(f"{name}.png"), Path(f"{name}_labels.png"), table) for name in "ab")
        self.clips = (Clip(tuple(files), 1),)


def test_a_worker_that_crashes_names_all_files_of_the_clip(recipe: Path) -> None:
    resolved = resolve(recipe, memory="stream", workers=1)
    samples = open_samples(DeadlyVideo(signal.SIGKILL, os.getpid()), OPERATOR, resolved.data)
    assert isinstance(samples, OnDisk)
    with pytest.raises(TrainingError, match=r"it read a\.png and a_labels\.png and b\.png and b_labels\.png: look"):
        make_sampler(samples, resolved, 2).draw()
