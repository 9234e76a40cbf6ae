"""Scores of what a bundle makes of renders, beside two controls: the render itself, and a grade."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from models.nets.efficientnet_lite import EfficientNetLite
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.grade import Grade, fit
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.unpaired import Render, RenderSet, merging
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.data.read import read_flow
from trainers.loop.device import pick_device
from trainers.scores.colour import HUED, hues, light
from trainers.scores.edges_kept import edges_kept
from trainers.scores.evaluate import rounded
from trainers.scores.export import OpenedBundle
from trainers.scores.flicker import Clip, flicker
from trainers.scores.grain import grain, grain_gap
from trainers.scores.photo_distance import PhotoJudge, Scene
from trainers.systems.segmentation import Judge, predict, score

STILLS: Final = 4
"""Of each recording, evenly spread."""
FRAMES: Final = 12
"""Of each clip."""
FITTED: Final = 100
"""Photographs that the grade is fitted on."""
NULL: Final = "null"
GRADE: Final = "grade"

Paint = Callable[[Sequence[Render]], list[ByteArray]]
"""Makes a picture of each render."""


@dataclass(frozen=True)
class RenderScorer:
    """What pictures of the same renders are measured by.

    Attributes:
        stills: By recording.
        clips: Of the recordings that have exact flow.
        classes: Names by id, of renders and photographs.
        judges: Photo distance, ``raw`` and ``tone_removed``.
        photographs: Grain of the photographs by class.
        judge: Reads the pictures; None without.
    """

    stills: Mapping[str, Sequence[Render]]
    clips: Mapping[str, Clip]
    classes: Sequence[str]
    judges: Mapping[str, PhotoJudge]
    photographs: dict[str, Any]
    judge: Judge | None

    @classmethod
    def build(
        cls,
        folders: Sequence[Path],
        photographs: Sequence[Photograph],
        data: DataSet,
        same: ByteArray,
        judge: Judge | None,
    ) -> Self:
        """Reads the recordings; classes that photographs do not tell apart are merged by the table ``same``."""
        sets = [RenderSet(folder, data.classes) for folder in folders]
        for held in sets:
            held.read((1, 1))
        stills = {held.folder.name: spread_evenly(held.renders, STILLS) for held in sets}
        clips = {held.folder.name: clip for held in sets if (clip := _clip(held)) is not None}
        network = EfficientNetLite("lite2")
        scenes = [Scene(r.rgb, same[r.labels]) for renders in stills.values() for r in renders]
        real = [Scene(p.rgb, same[p.labels]) for p in photographs]
        try:
            judges = {
                name: PhotoJudge(network, scenes, real, len(data.classes), tone_removed=removed)
                for name, removed in (("raw", False), ("tone_removed", True))
            }
        except ValueError as error:
            raise UsageError(f"renders and photographs cannot be compared: {error}") from error
        of_photographs = grain([p.rgb for p in photographs], [p.labels for p in photographs], data.classes)
        return cls(stills, clips, data.classes, judges, of_photographs, judge)

    def score(self, paint: Paint) -> dict[str, Any]:
        """All measures of what ``paint`` makes."""
        renders = [r for of_one in self.stills.values() for r in of_one]
        made, shown = paint(renders), [r.rgb for r in renders]
        edges = edges_kept(made, shown)
        masks = {name: [r.labels == self.classes.index(name) for r in renders] for name in HUED if name in self.classes}
        result: dict[str, Any] = {name: self._distance(judge, made) for name, judge in self.judges.items()}
        result |= {"edges_invented": edges.invented, "edges_kept": edges.kept}
        result["hue_error"] = {name: hue.error for name, hue in hues(made, shown, masks).items()}
        result["light"] = self._lights(made)
        of_made = grain(made, [r.labels for r in renders], self.classes)
        result["grain_gap"] = asdict(grain_gap(of_made, self.photographs))
        if self.clips:
            result["flicker"] = {name: self._flicker(clip, paint) for name, clip in self.clips.items()}
        return result | self._judged(made, renders)

    @staticmethod
    def _distance(judge: PhotoJudge, made: Sequence[ByteArray]) -> dict[str, Any]:
        found = judge(made)
        return {"left": found.left, "by_depth": list(found.left_by_depth), "pairs": found.pairs}

    def _lights(self, made: Sequence[ByteArray]) -> dict[str, float]:
        """Mean luma by recording."""
        lights, start = {}, 0
        for name, renders in self.stills.items():
            lights[name] = light(made[start : start + len(renders)])
            start += len(renders)
        return lights

    @staticmethod
    def _flicker(clip: Clip, paint: Paint) -> dict[str, float]:
        frames = [Render(rgb, ids) for rgb, ids in zip(clip.pictures, clip.labels, strict=True)]
        found = flicker(paint(frames), clip)
        return {
            "whole": found.whole,
            "low": found.low,
            "against_sharpened": found.against_sharpened,
            "gradient": found.gradient,
        }

    def _judged(self, made: Sequence[ByteArray], renders: Sequence[Render]) -> dict[str, Any]:
        if self.judge is None:
            return {}
        wanted = self.judge.labels_of([r.labels for r in renders], self.classes)
        read = predict(self.judge.network, made)
        cut = [labels[: ids.shape[0], : ids.shape[1]] for labels, ids in zip(wanted, read, strict=True)]
        found = score(read, cut, len(self.judge.classes), self.judge.void)
        return {"judge_accuracy": found.pixel_accuracy, "judge_mean_iou": found.mean_iou}


def score_on_renders(
    name: str, root: Path, folders: Sequence[Path], judge: str | None, every: int, look: str | None = None
) -> dict[str, Any]:
    """Scores of a bundle, of the renders themselves (``null``) and of a grade (``grade``), on recordings.

    Args:
        name: The bundle.
        root: Photographs: their validation split is what pictures are compared with, their training split what the
            grade is fitted on, with these very renders: an advantage that the bundle does not have.
        folders: Recordings.
        judge: A segmenter's bundle.
        every: Takes every n-th photograph.
        look: One of the bundle's; ``root`` are then its photographs.

    Raises:
        SimBridgeError: A bundle, a recording, photographs or the look are wrong or missing.
    """
    opened = OpenedBundle.load(name)
    looks = {getattr(opened.recipe, "look", None): opened.data}
    looks |= {other.name: other.data for other in getattr(opened.recipe, "looks", ())}
    if look is not None and look not in looks:
        raise UsageError(f"bundle {name} has no look {look!r}: it has {', '.join(str(n) for n in looks if n)}")
    recipe = opened.data if look is None else looks[look]
    val, train = (open_data(recipe, root, split) for split in ("val", "train"))
    if list(val.classes) != list(opened.card.classes):
        raise UsageError(
            f"photographs of {root} have the classes {', '.join(val.classes)}, the bundle {name} has"
            f" {', '.join(opened.card.classes)}: give photographs with its own classes"
        )
    photographs = [val[i] for i in range(0, len(val), every)]
    same = merging(val.classes, getattr(opened.recipe, "judged_as", {}))
    scorer = RenderScorer.build(folders, photographs, val, same, None if judge is None else Judge.load(judge))
    renders = [r for of_one in scorer.stills.values() for r in of_one]
    fitted = [train[i] for i in spread_evenly(range(len(train)), FITTED)]
    graded = fit([(r.rgb, r.labels) for r in renders], [(p.rgb, p.labels) for p in fitted], len(val.classes))
    paints = {NULL: _as_they_are, GRADE: _by_grade(graded), name: _by_bundle(opened, look)}
    return rounded({who: scorer.score(paint) for who, paint in paints.items()})  # type: ignore[no-any-return]


def _as_they_are(renders: Sequence[Render]) -> list[ByteArray]:
    return [r.rgb for r in renders]


def _by_grade(graded: Grade) -> Paint:
    return lambda renders: [graded.apply(r.rgb, r.labels, seed) for seed, r in enumerate(renders)]


def _by_bundle(opened: OpenedBundle, look: str | None) -> Paint:
    network = opened.network.to(pick_device())
    paint = opened.system.variants(network).get(str(look), opened.system.pictures)

    def made(renders: Sequence[Render]) -> list[ByteArray]:
        cut = [Photograph("", r.rgb, r.labels).crop_to_stride() for r in renders]
        return [_over(r.rgb, picture) for r, picture in zip(renders, paint(network, cut), strict=True)]

    return made


def _over(render: ByteArray, picture: ByteArray) -> ByteArray:
    """A picture of the part that :meth:`Photograph.crop_to_stride` leaves; its border stays the render's."""
    (height, width), top = picture.shape[:2], (render.shape[0] - picture.shape[0]) // 2
    out = render.copy()
    out[top : top + height, :width] = picture
    return out


def _clip(held: RenderSet) -> Clip | None:
    """The first frames of a recording's first camera, where every frame but the last says how its pixels move."""
    recording = Recording.open(held.folder)
    frames = list(islice(recording.frames(recording.cameras()[0]), FRAMES))
    flows = [frame.files.get(Folder.FLOW) for frame in frames[:-1]]
    found = [read_flow(file) for file in flows if file is not None]
    if not found or len(found) < len(flows):
        return None
    renders = held.renders[: len(frames)]
    return Clip([r.rgb for r in renders], [r.labels for r in renders], found)
