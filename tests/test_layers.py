"""The layer rules: imports point downward only, and the client side needs neither torch nor OpenCV."""

import ast
import subprocess
import sys
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
    "lockstep",
    "settings",
    "live.pairing",
    "live.ledger",
    "pixels.labels",
)


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


@pytest.mark.parametrize("module", LIGHT)
def test_client_side_imports_neither_torch_nor_opencv(module: str) -> None:
    code = f"import sys, sim_bridge.{module}; print(sorted({{'torch', 'cv2'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_pixel_code_of_models_sees_no_files_of_data_sets() -> None:
    wrong = [str(f) for f in (ROOT / "models").rglob("*.py") if "import cv2" in f.read_text(encoding="utf-8")]
    assert wrong == []
