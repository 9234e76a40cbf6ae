"""SYNTHIA (Ros et al.): rendered streets with labels, random views and sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sim_bridge.errors import UsageError
from sim_bridge.labels import LabelMap, taxonomy
from trainers.data import take_share
from trainers.pairs import Listing, PairedImages, pair_up
from trainers.recordings import STREET_CLASSES

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

    SYNTHIA has no official split, so this is ours: the sequences of ``val_sequences`` validate and the others train;
    without any, the last ``val_share`` of the frames of every folder of pictures, by name, validate, the others train.
    Neighbours of a sequence look alike, so a split by sequences is the harder and better one.

    Args:
        root: The data set's folder.
        split: ``train`` or ``val``.
        exclude: Sequences left out.
        share: Every sample, or only the ``odd`` or ``even`` ones.
        val_share: Share of the frames that validate.
        val_sequences: Names of the sequences that validate, instead of a share.
        views: Cameras of the sequences that are taken.
        strict: Raise problems of the listing.

    Raises:
        UsageError: The folder is missing or empty, a picture or its labels are missing, or there is no such sequence.
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
        packages = [p for p in _packages(root, views) if p.root.name not in exclude]
        names = {p.root.name for p in packages}
        if unknown := set(val_sequences) - names:
            raise UsageError(
                f"data.val_sequences names {', '.join(sorted(unknown))}, but {root} holds"
                f" {', '.join(sorted(names)) or 'no sequence'}: name those"
            )
        pairs: list[tuple[Path, Path]] = []
        problems = []
        for package in packages:
            validates = (package.root.name in val_sequences) if val_sequences else None
            belonging = partial(_of_split, split=split, val_share=val_share, validates=validates)
            for view in package.views:
                found = _pair_view(package.root, view, belonging)
                pairs += found.pairs
                problems += found.problems
        self._random = LabelMap.build(taxonomy("synthia"), self.classes)
        self._sequences = LabelMap.build(taxonomy("synthia-seqs"), self.classes)
        rule = f"sequences {', '.join(val_sequences)}" if val_sequences else f"last {val_share:.0%}"
        self.description = (
            f"SYNTHIA {split} (validation: {rule}), {share} frames, without {', '.join(exclude) or 'none'}"
        )
        hint = "give --root the folder that holds RGB/ and GT/LABELS/, or one folder above it"
        super().__init__(Listing(take_share(pairs, share), problems), root, hint, strict=strict)

    def label_map(self, labels: Path) -> LabelMap:
        """The ids of the sequences, or of the random views."""
        return self._random if labels.parent.name == "LABELS" else self._sequences


def _packages(root: Path, views: tuple[str, ...]) -> Iterator[_Package]:
    """The downloads in a folder, or the one that it is; random views lie in ``RGB`` itself."""
    candidates = [root] if (root / "RGB").is_dir() else sorted(p for p in root.glob("*") if (p / "RGB").is_dir())
    for candidate in candidates:
        sequence = any((candidate / "RGB").glob("Stereo_*"))
        yield _Package(candidate, views if sequence else ("",))


def _of_split(frames: list[str], split: str, val_share: float, validates: bool | None) -> list[str]:
    """Those of a folder's frames, given in order, that belong to a split; ``validates`` where the folder decides."""
    if validates is not None:
        return frames if validates == (split == "val") else []
    first = len(frames) - math.ceil(len(frames) * val_share)
    return frames[first:] if split == "val" else frames[:first]


def _pair_view(package: Path, view: str, belonging: Callable[[list[str]], list[str]]) -> Listing:
    pictures, annotations = package / "RGB" / view, package / "GT" / "LABELS" / view
    images, labels = sorted(pictures.glob("*.png")), sorted(annotations.glob("*.png"))
    # Split by the names of both, so that a missing file moves no other to the other side.
    mine = set(belonging(sorted({p.name for p in (*images, *labels)})))
    return pair_up(
        (p for p in images if p.name in mine), (p for p in labels if p.name in mine), lambda p: annotations / p.name
    )
