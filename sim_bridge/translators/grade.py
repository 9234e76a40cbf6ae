"""A colour grade as a translator: ``--bundle grade:FILE``, fitted by ``trainers/run.py grade``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sim_bridge.errors import MissingExtraError, TranslatorError, UsageError
from sim_bridge.settings import MAX_STYLE_SEED
from sim_bridge.translators import Shot, Translation, Translator
from sim_bridge.translators.batches import stack_ids
from sim_bridge.translators.load import TranslatorSettings
from sim_bridge.translators.styles import Control

try:
    from sim_bridge.pixels.grade import Grade
except ImportError as error:
    raise MissingExtraError(error.name or "cv2", "engine", "grading") from error

_ABOUT: Final = ("classes", "licence", "data")
_STYLES: Final = (
    Control("strength", "number", "Strength", default=1.0),
    Control("seed", "seed", "Seed", high=MAX_STYLE_SEED),
)


class GradeTranslator(Translator):
    """Grades every frame by its classes; the grain is the seed's.

    Args:
        grade: What is done.
        classes: Canonical class names by id.
        name: The file's.
        model_id: First 12 hexadecimal digits of the file's SHA-256.
    """

    def __init__(self, grade: Grade, classes: Sequence[str], name: str, model_id: str) -> None:
        self._grade, self._classes, self._name, self._model_id = grade, tuple(classes), name, model_id

    @property
    def name(self) -> str:
        """The file's name."""
        return self._name

    @property
    def model_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the file."""
        return self._model_id

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical class names by id."""
        return self._classes

    @property
    def styles(self) -> tuple[Control, ...]:
        """Strength, 0 for the render itself, and the grain's seed."""
        return _STYLES

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        """Grades the pictures. Raises TranslatorError when an id is no class, or the shapes disagree."""
        rgb, labels = stack_ids(shots, len(self._classes), self._name)
        given = shots[0].style.get("strength")
        strength = float(given) if isinstance(given, int | float) else 1.0
        seed = shots[0].style.seed
        pairs = zip(rgb, labels, strict=True)
        return [Translation(self._grade.apply(picture, ids, seed, strength)) for picture, ids in pairs]


def load(reference: str, settings: TranslatorSettings) -> Translator:
    """Reads a grade file.

    Raises:
        UsageError: There is no such file.
        TranslatorError: It is no grade.
    """
    del settings
    path = Path(reference).expanduser()
    if not reference or not path.is_file():
        raise UsageError(
            f"there is no grade file {reference!r}: write --bundle grade:FILE, fit by trainers/run.py grade"
        )
    content = path.read_bytes()
    try:
        said: dict[str, Any] = json.loads(content.decode("utf-8-sig"))
        classes = [str(name) for name in said["classes"]]
        grade = Grade.from_dict({name: value for name, value in said.items() if name not in _ABOUT})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TranslatorError(f"{path} is no grade file ({error}): fit one by trainers/run.py grade") from error
    if len(grade.gain) != len(classes):
        raise TranslatorError(f"{path} names {len(classes)} classes and grades {len(grade.gain)}: fit it again")
    return GradeTranslator(grade, classes, path.stem, hashlib.sha256(content).hexdigest()[:12])
