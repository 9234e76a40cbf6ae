"""SYNTHIA (Ros et al.): rendered streets with labels, random views and sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from sim_bridge.pixels.labels import LabelMap, taxonomy
from sim_bridge.recordings.listing import list_folders, natural
from trainers.data.clips import FrameFiles, Video
from trainers.data.pairs import Listing, PairedImages, list_images, pair_up, refuse_unknown_names
from trainers.data.problems import MissingViewError, Problem
from trainers.data.recordings import STREET_CLASSES

FRONT_VIEW = "Stereo_Left/Omni_F"


class _Package(NamedTuple):
    """One download: its folder, and the folders below ``RGB`` and ``GT/LABELS`` that hold pictures."""

    root: Path
    views: tuple[str, ...]


class Synthia(PairedImages):
    """SYNTHIA in the layouts of its downloads, alone or several in one folder.

    * SYNTHIA-RAND-CITYSCAPES: ``RGB/0000000.png`` and ``GT/LABELS/0000000.png``
    * SYNTHIA-SEQS: ``NAME/RGB/Stereo_Left/Omni_F/000000.png`` and ``NAME/GT/LABELS/Stereo_Left/Omni_F/000000.png``

    Labels are PNG of 16 bits and three channels: the first is the class, the second the instance. The two kinds of
    download number their classes differently from id 12 on.

    The split is ours: ``val_sequences`` validate; without any, the last ``val_share`` of each folder's frames do.

    Args:
        exclude: Sequences left out.
        views: Cameras of the sequences that are taken.

    Raises:
        UsageError: A file, a view or a named sequence is missing.
    """

    classes = STREET_CLASSES
    licence = "CC-BY-NC-SA-3.0"
    credit = "SYNTHIA, Ros et al."

    def __init__(
        self,
        root: Path,
        split: str,
        exclude: tuple[str, ...] = (),
        share: str = "all",
        *,
        val_share: float = 0.1,
        val_sequences: tuple[str, ...] = (),
        views: tuple[str, ...] = (FRONT_VIEW,),
        strict: bool = True,
    ) -> None:
        root = root.resolve()  # a download's name may be asked for, and that of "." is empty
        held = {p.root.name: p for p in _packages(root, views)}
        refuse_unknown_names("exclude", exclude, held, root)
        refuse_unknown_names("val_sequences", val_sequences, held.keys() - set(exclude), root)
        listing, pictures = Listing([], [], []), list[Path]()
        for name, package in held.items():
            validates = (name in val_sequences) if val_sequences else None
            belonging = partial(_of_split, split=split, val_share=val_share, validates=validates)
            for view in package.views:
                found = _pair_view(package.root, view, belonging)
                pictures += [picture for picture, _ in found.pairs]
                if name not in exclude:
                    listing.pairs.extend(found.pairs)
                    listing.problems.extend(found.problems)
                    listing.notes.extend(found.notes)
        self._random = LabelMap.build(taxonomy("synthia"), self.classes)
        self._sequences = LabelMap.build(taxonomy("synthia-seqs"), self.classes)
        rule = f"sequences {', '.join(val_sequences)}" if val_sequences else f"last {val_share:.0%}"
        self.description = (
            f"SYNTHIA {split} (validation: {rule}), {share} frames, without {', '.join(exclude) or 'none'}"
        )
        hint = "give --root the folder that holds RGB/ and GT/LABELS/, or one folder above it"
        super().__init__(root, listing, pictures, hint, share, folder=root, strict=strict)

    def label_map(self, labels: Path) -> LabelMap:
        """The ids of the sequences, or of the random views."""
        return self._random if labels.parent.name == "LABELS" else self._sequences

    def videos(self) -> list[Video]:
        """The sequences, one video a camera; random views are none."""
        cameras: dict[Path, dict[int, FrameFiles]] = {}
        for index, (picture, labels) in enumerate(self.files):
            if self.label_map(labels) is self._sequences and picture.stem.isdecimal():
                cameras.setdefault(picture.parent, {})[int(picture.stem)] = self.frame(index)
        return list(cameras.values())


_HALVES: Final = ("RGB", "GT/LABELS")


def _packages(root: Path, views: tuple[str, ...]) -> Iterator[_Package]:
    """The downloads in a folder, or the one that it is, also without their pictures or labels."""

    def has_pictures(folder: Path) -> bool:
        return any((folder / half).is_dir() for half in _HALVES)

    candidates = [root] if has_pictures(root) else [*filter(has_pictures, list_folders(root))]
    for candidate in candidates:
        yield _Package(candidate, views if _views(candidate) else ("",))


def _views(package: Path) -> list[str]:
    """The cameras that a download has pictures or labels of, as ``Stereo_Left/Omni_F``; none are of random views."""
    sides = [side for half in _HALVES for side in list_folders(package / half) if side.name.startswith("Stereo_")]
    return sorted({f"{side.name}/{view.name}" for side in sides for view in list_folders(side)})


def _of_split(frames: list[str], split: str, val_share: float, validates: bool | None) -> list[str]:
    """Those of a folder's frames, given in order, that belong to a split; ``validates`` where the folder decides."""
    if validates is not None:
        return frames if validates == (split == "val") else []
    first = len(frames) - math.ceil(len(frames) * val_share)
    return frames[first:] if split == "val" else frames[:first]


def _pair_view(package: Path, view: str, belonging: Callable[[list[str]], list[str]]) -> Listing:
    pictures, annotations = package / "RGB" / view, package / "GT" / "LABELS" / view
    notes: list[str] = []
    images, labels = (list_images(folder, endings={".png"}, notes=notes) for folder in (pictures, annotations))
    # Split by the names of both, so that a missing file moves no other to the other side.
    names = sorted({p.stem for p in (*images, *labels)}, key=natural)
    mine = set(belonging(names))
    if not images and (mine or not names):
        return Listing([], [Problem(pictures, _missing_view(package, view, len(labels)))], notes)
    listing = pair_up(
        (p for p in images if p.stem in mine),
        (p for p in labels if p.stem in mine),
        lambda p: annotations / f"{p.stem}.png",
    )
    return listing._replace(notes=notes)


def _missing_view(package: Path, view: str, labelled: int) -> MissingViewError:
    where = f"of view {view}" if view else "in RGB"
    there = f"labels of {labelled} frames alone" if labelled else ", ".join(_views(package)) or "nothing else"
    return MissingViewError(
        f"{package} holds no pictures {where} (it holds {there}): unpack the download again, name in data.views what"
        " there is, or leave it out with data.exclude"
    )
