"""Taxonomies: what the class ids of a stream mean. One YAML file each, ours in ``taxonomies/`` or the user's own.

Classes carry Cityscapes' names wherever Cityscapes has the class. docs/recordings.md describes the file.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import entry_points
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sim_bridge.errors import LabelError, UsageError
from sim_bridge.mistakes import first_mistake

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

UNLABELED: Final = "unlabeled"
TAXONOMY_GROUP: Final = "sim_bridge.taxonomies"
"""Entry points ``NAME = package``: the taxonomy is the file ``NAME.yaml`` in that package."""
MAX_FILE_BYTES: Final = 1 << 18
"""Largest taxonomy file that is read."""

_FOLDER = resources.files("sim_bridge.pixels") / "taxonomies"
_COMMON = "common"
_SUFFIXES = (".yaml", ".yml")
_DOCUMENTED = "docs/recordings.md shows a whole file"


@dataclass(frozen=True, slots=True, eq=False)
class Taxonomy:
    """What the class ids of a stream mean.

    Attributes:
        name: Its name in headers and settings.
        ids: Canonical class name by id.
        palette: Colour by id, as the set's own colour images have it.
        aliases: Canonical name by the set's own name, where the two differ.
        fallbacks: The file's own chains by canonical name; they come before the common ones.
        trains: Classes that a network trains with, by its id.
        text: The YAML of a user's taxonomy; empty for a shipped one.
    """

    name: str
    ids: Mapping[int, str]
    palette: Mapping[int, Color]
    aliases: Mapping[str, str]
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trains: tuple[str, ...] = ()
    text: str = ""

    def canonical_name(self, name: str) -> str:
        """As :func:`canonical_name`; the file's own classes and aliases come first."""
        plain = _plain(name)
        if plain in self.ids.values():
            return plain
        return self.aliases.get(plain) or canonical_name(plain)

    def fallback_chain(self, name: str) -> tuple[str, ...]:
        """As :func:`fallback_chain`; the file's own chains come first."""
        own = self.fallbacks.get(name)
        return fallback_chain(name) if own is None else own


class Taxonomies:
    """The taxonomies that a name on the wire may mean: the user's own, shipped ones, those that packages bring.

    Args:
        own: The user's.

    Raises:
        UsageError: Two have one name.
    """

    def __init__(self, own: Iterable[Taxonomy] = ()) -> None:
        self._own: dict[str, Taxonomy] = {}
        for table in own:
            if table.name in self._own:
                raise UsageError(f"two taxonomies have the name {table.name!r}: rename one of them")
            self._own[table.name] = table

    @classmethod
    def read(cls, files: Iterable[Path]) -> Taxonomies:
        """Reads the user's files. Raises UsageError when one cannot be used, or two have one name."""
        return cls(read_taxonomy(file) for file in files)

    def names(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted({*taxonomy_names(), *self._own}))

    def named(self, name: str) -> Taxonomy:
        """Returns the taxonomy of that name; never opens ``name`` as a path.

        Raises LabelError when there is none; the message lists those there are.
        """
        own = self._own.get(name)
        if own is None and name not in taxonomy_names():
            known = ", ".join(self.names())
            raise LabelError(
                f"the taxonomy {name!r} is unknown: use one of {known}, or name its file by --taxonomy FILE"
            )
        return taxonomy(name) if own is None else own


def taxonomy_names() -> tuple[str, ...]:
    """Names of the shipped taxonomies and of those that packages bring, sorted."""
    return tuple(sorted({*shipped_names(), *(entry.name for entry in entry_points(group=TAXONOMY_GROUP))}))


@functools.cache
def shipped_names() -> tuple[str, ...]:
    """Sorted."""
    stems = (entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(stem for stem in stems if stem != _COMMON))


@functools.cache
def taxonomy(name: str) -> Taxonomy:
    """Returns the taxonomy of that name: a shipped one, or one that an installed package brings.

    Raises LabelError when there is none (the message lists those there are), or the package's file cannot be used.
    """
    if name in shipped_names():
        return _read(_FOLDER / f"{name}.yaml", f"the taxonomy {name}", shipped=True)
    for entry in entry_points(group=TAXONOMY_GROUP, name=name):
        try:
            file = resources.files(entry.value) / f"{name}.yaml"
            table = _read(file, f"the taxonomy {name!r} of the package {entry.value}", shipped=False)
        except (ImportError, UsageError) as error:
            raise LabelError(f"the package {entry.value} brings no taxonomy {name!r} ({error}): correct it") from error
        if table.name != name:
            raise LabelError(
                f"{name}.yaml in {entry.value} has the name {table.name!r}: give it that of its entry point"
            )
        return table
    raise LabelError(f"the taxonomy {name!r} is unknown: use one of {', '.join(taxonomy_names())}, or a .yaml file")


def is_file_name(name: str) -> bool:
    """Whether a text given where a taxonomy is expected means a file: it ends in ``.yaml`` or ``.yml``."""
    return name.lower().endswith(_SUFFIXES)


def find_taxonomy(name: str, folder: Path | None = None) -> Taxonomy:
    """The taxonomy that a user or a recording names, by name or by file.

    Args:
        name: A name, or a file that ends in ``.yaml`` or ``.yml``.
        folder: The recording that names it: the file must lie inside, and ``NAME.yaml`` there is found by its name.
            None for a user, who may name any file.

    Raises:
        LabelError: No taxonomy has this name.
        UsageError: The file cannot be used, or leaves the recording.
    """
    if folder is None:
        return read_taxonomy(Path(name)) if is_file_name(name) else taxonomy(name)
    if is_file_name(name):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name:
            raise UsageError(f"the taxonomy {name!r} leaves the recording {folder}: put the file into it")
        return read_taxonomy(folder / name)
    if name not in shipped_names() and PurePosixPath(name).name == name and (folder / f"{name}.yaml").is_file():
        return read_taxonomy(folder / f"{name}.yaml")
    return taxonomy(name)


def read_taxonomy(file: Path) -> Taxonomy:
    """Reads a taxonomy of the user's.

    Raises UsageError when it cannot be read, or something in it is wrong; one sentence that says what.
    """
    return _read(file, f"the taxonomy file {file}", shipped=False)


def canonical_name(name: str) -> str:
    """This project's name of a class that a data set or model card may call otherwise (``Tree`` -> ``vegetation``)."""
    plain = _plain(name)
    return _common_aliases().get(plain, plain)


def fallback_chain(name: str) -> tuple[str, ...]:
    """The classes that replace one that a network lacks, best first; ``unlabeled`` follows them all."""
    return tuple(_common()["fallbacks"].get(name, ()))


def class_list(name: str) -> tuple[str, ...]:
    """One of the common lists of classes to train with: ``street``, ``cityscapes``, ``camvid``."""
    return tuple(_common()["trains"][name])


def known_classes() -> Collection[str]:
    """Canonical names of all classes that the shipped taxonomies have."""
    return frozenset({*_common()["fallbacks"], UNLABELED})


@functools.cache
def _common() -> Mapping[str, Any]:
    table: Mapping[str, Any] = yaml.safe_load((_FOLDER / f"{_COMMON}.yaml").read_text(encoding="utf-8"))
    return table


@functools.cache
def _common_aliases() -> Mapping[str, str]:
    return {alias: name for name, aliases in _common()["aliases"].items() for alias in aliases}


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", " ").replace("_", " ")


_Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
_ClassName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
_ClassNames = Annotated[list[_ClassName], Field(max_length=256)]


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: _Byte
    name: _ClassName
    color: tuple[_Byte, _Byte, _Byte]
    called: _ClassName | None = None


class _File(BaseModel):
    """A taxonomy's file as it must be, but for what one entry says of another."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    classes: Annotated[list[_Class], Field(min_length=1, max_length=256)]
    fallbacks: dict[_ClassName, _ClassNames] = {}
    aliases: dict[_ClassName, _ClassNames] = {}
    trains: str | _ClassNames = "street"
    shared_colors: bool = False


def _read(file: Path | Traversable, what: str, *, shipped: bool) -> Taxonomy:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{what} cannot be read ({error.strerror}): check the path") from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{what} has more than {MAX_FILE_BYTES} bytes, the limit: {_DOCUMENTED}")
    try:
        text = content.decode("utf-8")
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{what} is not YAML ({' '.join(str(error).split())}): {_DOCUMENTED}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{what} holds a {type(raw).__name__} where keys are expected: {_DOCUMENTED}")
    try:
        return _Checker(_File.model_validate(raw), what).taxonomy("" if shipped else text)
    except ValidationError as error:
        raise UsageError(f"{what} cannot be used: {first_mistake(error)}; {_DOCUMENTED}") from error


class _Checker:
    """Holds a file's entries against each other and against what all taxonomies share."""

    def __init__(self, file: _File, what: str) -> None:
        self._file = file
        self._what = what

    def taxonomy(self, text: str) -> Taxonomy:
        """The checked taxonomy; ``text`` is empty for a shipped one. Raises UsageError when something is wrong."""
        file = self._file
        if text and (file.name in shipped_names() or is_file_name(file.name)):
            self._refuse(f"the name {file.name!r}", "is that of a shipped one or ends like a file: choose another")
        self._check_unique([(str(entry.id), entry.name) for entry in file.classes], "id")
        if not file.shared_colors:
            colors = [(str(list(entry.color)), entry.name) for entry in file.classes]
            self._check_unique(
                colors, "colour", ", or write shared_colors: true and read colours back as the lowest id"
            )
        self._aliases = self._read_aliases()
        self._names = {self._canonical(entry.name) for entry in file.classes}
        fallbacks = self._read_fallbacks()
        for entry in file.classes:
            if (name := self._canonical(entry.name)) not in known_classes() and name not in fallbacks:
                advice = (
                    f"is a class that no shipped taxonomy has{self._near(name)}: say under fallbacks: what replaces it"
                )
                self._refuse(
                    f"{entry.name!r}", f"{advice} in networks that lack it, like '{name}: [road]', or '{name}: []'"
                )
        called = {_plain(entry.called): self._canonical(entry.name) for entry in file.classes if entry.called}
        return Taxonomy(
            name=file.name,
            ids=MappingProxyType({entry.id: self._canonical(entry.name) for entry in file.classes}),
            palette=MappingProxyType({entry.id: entry.color for entry in file.classes}),
            aliases=MappingProxyType({**self._aliases, **called}),
            fallbacks=MappingProxyType(fallbacks),
            trains=self._read_trains(),
            text=text,
        )

    def _read_aliases(self) -> dict[str, str]:
        aliases: dict[str, str] = {}
        for name, others in self._file.aliases.items():
            target = canonical_name(name)
            for other in map(_plain, others):
                if other in aliases or other in map(_plain, self._file.aliases):
                    self._refuse(f"the alias {other!r} of {name!r}", "has another meaning in it, too: leave one out")
                aliases[other] = target
        return aliases

    def _read_fallbacks(self) -> dict[str, tuple[str, ...]]:
        chains: dict[str, tuple[str, ...]] = {}
        for name, chain in self._file.fallbacks.items():
            key = self._canonical(name)
            if key not in self._names:
                self._refuse(f"fallbacks: {name!r}", f"is none of its classes{self._near(name)}: correct the name")
            chains[key] = tuple(self._known(other, f"the fallback {other!r} of {name!r}") for other in chain)
            if key in chains[key]:
                self._refuse(f"the fallback {name!r} of itself", "says nothing: leave it out")
        return chains

    def _read_trains(self) -> tuple[str, ...]:
        trains = self._file.trains
        if isinstance(trains, str):
            lists = _common()["trains"]
            if trains not in lists:
                self._refuse(f"trains: {trains!r}", f"is no list of classes: use {', '.join(lists)}, or [road, ...]")
            return class_list(trains)
        names = tuple(self._known(name, f"trains: {name!r}") for name in trains)
        self._check_unique([(name, name) for name in names], "class to train with")
        if UNLABELED not in names:
            self._refuse("trains:", f"has no {UNLABELED!r} for what is none of its classes: add it")
        return names

    def _canonical(self, name: str) -> str:
        plain = _plain(name)
        return self._aliases.get(plain) or canonical_name(plain)

    def _known(self, name: str, where: str) -> str:
        canonical = self._canonical(name)
        if canonical not in self._names and canonical not in known_classes():
            self._refuse(where, f"is a class that neither it nor a shipped one has{self._near(name)}: correct the name")
        return canonical

    def _near(self, name: str) -> str:
        others = sorted({*self._names, *known_classes()} - {_plain(name)})
        near = difflib.get_close_matches(_plain(name), others, 1, 0.75)
        return f" (did you mean {near[0]!r}?)" if near else ""

    def _check_unique(self, entries: Sequence[tuple[str, str]], what: str, advice: str = "") -> None:
        seen: dict[str, str] = {}
        for key, name in entries:
            if key in seen:
                self._refuse(f"the {what} {key}", f"is there twice, for {seen[key]!r} and {name!r}: change one{advice}")
            seen[key] = name

    def _refuse(self, thing: str, problem: str) -> None:
        raise UsageError(f"{self._what} cannot be used: {thing} {problem}")
