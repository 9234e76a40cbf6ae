"""The layer rules: imports point downward only, and the client side needs neither torch nor OpenCV."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "models": {"models"},
    "sim_bridge": {"sim_bridge", "models"},
    "trainers": {"trainers", "sim_bridge", "models"},
    "plugins": {"plugins", "sim_bridge", "models"},
}
LIGHT = (
    "errors",
    "frames",
    "wire",
    "wire.transport",
    "client",
    "publisher",
    "lockstep",
    "settings",
    "live.pairing",
    "live.ledger",
    "pixels.labels",
)

LOOSE = "operators"
"""The one room of all files of ``models`` that lie beside its folders."""
ROOMS: dict[str, dict[str, str]] = {
    "models": {
        LOOSE: "",
        "nets": LOOSE,
        "losses": f"{LOOSE} nets",
        "bundles": f"{LOOSE} nets",
    },
    "trainers": {
        "errors": "",
        "recipes": "",
        "data": "recipes",
        "batches": "errors recipes data",
        "systems": "recipes data batches",
        "loop": "errors recipes data batches systems",
        "scores": "recipes data batches systems loop",
        "run": "recipes data batches systems loop scores",
    },
    "sim_bridge": {
        "errors": "",
        "frames": "",
        "mistakes": "",
        "wire": "errors frames",
        "settings": "errors frames wire",
        "load_settings": "errors mistakes settings",
        "publisher": "errors frames wire",
        "client": "errors frames wire publisher",
        "lockstep": "errors frames wire",
        "sources": "errors frames",
        "source_options": "errors frames mistakes",
        "pixels": "errors frames mistakes",
        "translators": "errors frames mistakes settings pixels",
        "process": "errors frames wire client lockstep sources",
        "live": "errors frames settings wire pixels translators process",
        "page": "errors frames mistakes settings wire pixels translators live",
        "recordings": "errors frames mistakes settings client pixels translators",
        "tools": "errors frames settings wire client sources pixels translators process live",
        "options": "errors settings load_settings process",
        "plugin_commands": "errors sources",
        "cli": (
            "errors settings wire source_options options plugin_commands translators process live page recordings tools"
        ),
    },
    "plugins.carla": {"world": "", "rig": "world", "camera": "world rig", "run": "world rig"},
    "plugins.toytown": {"town": "", "view": "town", "looks": "town view", "run": "town view looks"},
}
"""Package: room: the rooms that it may import. A room is a folder, or a file beside the folders."""
EXCEPTIONS = {
    ("models.operators", "models.nets.dned"): "a style has a weight for each of DNED's sides",
    ("models.nets", "models.bundles.published"): "reads published weights; knows no network and no bundle",
    ("sim_bridge.lockstep", "sim_bridge.live.ledger"): "names of outcomes; pure",
    ("sim_bridge.lockstep", "sim_bridge.live.pairing"): "simulator and bridge join frames by the same pure code",
    ("trainers.data", "trainers.batches.draw"): "a check of photographs says which are too small to be cropped",
    ("trainers.loop", "trainers.scores.evaluate"): "a stage ends with the scores of its pictures",
    ("trainers.loop", "trainers.scores.export"): "a training ends with its bundle",
    ("trainers.recipes", "trainers.data.camvid"): "the default class for road lines",
    ("trainers.recipes", "trainers.systems"): "a recipe's type is the one that its system names",
}
"""Imports against the table: (room, module) and why."""


def imported_packages(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names & ALLOWED.keys()


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_downward(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): extra for f in files if (extra := imported_packages(f) - ALLOWED[package])}
    assert wrong == {}


def room_of(package: str, module: str) -> str | None:
    """The room of a module; None of the package's own ``__init__``."""
    name = module.removeprefix(package).lstrip(".").partition(".")[0]
    folder = ROOT / package.replace(".", "/") / name
    return None if not name else LOOSE if LOOSE in ROOMS[package] and not folder.is_dir() else name


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{file} has a relative import"
            folder = ROOT / node.module.replace(".", "/")
            for alias in node.names:
                found = (folder / alias.name).is_dir() or (folder / f"{alias.name}.py").is_file()
                yield f"{node.module}.{alias.name}" if found else node.module


def breaches(package: str) -> Iterator[tuple[str, str, str]]:
    """(file, its room, module) of every import that the package's table does not allow."""
    for file in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        room = room_of(package, name)
        if room is None:
            continue
        assert room in ROOMS[package], f"{name} is in no room: give it a row in ROOMS"
        allowed = {None, room, *ROOMS[package][room].split()}
        for module in imported_modules(file):
            inside = module == package or module.startswith(f"{package}.")
            if inside and room_of(package, module) not in allowed:
                yield str(file.relative_to(ROOT)), f"{package}.{room}", module


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_what_they_may(package: str) -> None:
    wrong = [breach for breach in breaches(package) if breach[1:] not in EXCEPTIONS]
    assert wrong == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_have_an_order(package: str) -> None:
    order = list(TopologicalSorter({room: below.split() for room, below in ROOMS[package].items()}).static_order())
    assert set(order) == ROOMS[package].keys()


def test_exceptions_are_needed() -> None:
    found = {breach[1:] for package in ROOMS for breach in breaches(package)}
    assert EXCEPTIONS.keys() - found == set()


@pytest.mark.parametrize("module", LIGHT)
def test_client_side_imports_neither_torch_nor_opencv(module: str) -> None:
    code = f"import sys, sim_bridge.{module}; print(sorted({{'torch', 'cv2'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_pixel_code_of_models_sees_no_files_of_data_sets() -> None:
    wrong = [str(f) for f in (ROOT / "models").rglob("*.py") if "import cv2" in f.read_text(encoding="utf-8")]
    assert wrong == []
