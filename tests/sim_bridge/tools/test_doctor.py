"""The doctor finds what is wrong, says what to do, and looks at everything else all the same."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq.auth

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from models.bundles.files import Card, save_bundle  # noqa: E402
from models.edges import EdgeSettings  # noqa: E402
from models.nets.sflow import SFlowNetwork  # noqa: E402
from sim_bridge.pixels.labels import taxonomy_names  # noqa: E402
from sim_bridge.settings import BridgeSettings  # noqa: E402
from sim_bridge.tools.doctor import Check, check_folder, check_packages, run_doctor  # noqa: E402
from tests.sim_bridge.recording_helpers import write_distribution  # noqa: E402


def make_bundle(folder: Path, classes: tuple[str, ...] = ("road", "sky", "car", "unlabeled")) -> Path:
    network = SFlowNetwork("lite", len(classes), EdgeSettings())
    card = Card("sflow", network.args, list(classes), [96, 64], "none", "none", 0, "Apache-2.0", "none")
    save_bundle(folder, network, card)
    return folder


def examine(**settings: object) -> dict[str, Check]:
    checks = run_doctor(BridgeSettings.model_validate({"output": "tcp://127.0.0.1:*", "bundle": "null", **settings}))
    return {check.name: check for check in checks}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_all_is_well(tmp_path: Path) -> None:
    checks = examine(bundle=str(make_bundle(tmp_path / "mine")), device="cpu")
    assert [check for check in checks.values() if not check.ok] == []
    assert {f"labels {name}" for name in taxonomy_names()} < set(checks)
    assert checks["bundle"].detail.startswith("mine, model ")
    assert "water" in checks["labels carla-0.9.14"].detail  # what the bundle cannot tell apart is named
    assert torch.__version__.partition("+")[0] in checks["engine"].detail


def test_a_flipped_byte_is_found_and_does_not_hide_the_rest(tmp_path: Path, listener: socket.socket) -> None:
    path = make_bundle(tmp_path / "mine")
    weights = path / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    taken = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    checks = examine(bundle=str(path), output=taken)
    assert not checks["bundle"].ok and "SHA-256" in checks["bundle"].detail
    assert not checks["output"].ok and "another process may hold it" in checks["output"].detail
    assert checks["current folder"].ok


def test_a_bundle_without_a_place_for_unknown_things_fails_on_its_labels(tmp_path: Path) -> None:
    checks = examine(bundle=str(make_bundle(tmp_path / "mine", ("road", "sky"))))
    assert checks["bundle"].ok
    assert not checks["labels carla-0.9.14"].ok and "unlabeled" in checks["labels carla-0.9.14"].detail


def test_a_source_that_cannot_be_loaded_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"odd": "json:dumps", "lost": "not_there_at_all:Source"}
    for name, entry in entries.items():
        folder = tmp_path / name
        folder.mkdir()
        write_distribution(folder, f"{name}-plugin", {"sim_bridge.sources": {name: entry}})
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            check = examine()["sources"]
        assert not check.ok and f"'{name}'" in check.detail
    assert examine()["sources"].ok


def test_the_null_bundle_has_no_labels_to_check() -> None:
    checks = examine()
    assert "does not look at labels" in checks["bundle"].detail
    assert not [name for name in checks if name.startswith("labels")]


def test_a_simulator_that_is_not_there_yet_is_no_failure(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert "somebody listens" in examine(input=f"tcp://127.0.0.1:{port}")["input"].detail
    listener.close()
    waiting = examine(input=f"tcp://127.0.0.1:{port}")["input"]
    assert waiting.ok and "nobody publishes there yet" in waiting.detail


def test_addresses_off_the_machine_need_keys_or_a_word() -> None:
    checks = examine(input="tcp://192.0.2.1:5555", output="tcp://0.0.0.0:*")
    assert not checks["input"].ok and "--insecure" in checks["input"].detail
    assert not checks["output"].ok and "--insecure" in checks["output"].detail


def test_secret_keys_must_be_secret(tmp_path: Path) -> None:
    zmq.auth.create_certificates(tmp_path, "sim-bridge")
    secret = tmp_path / "sim-bridge.key_secret"
    secret.chmod(0o644)
    open_check = examine(curve_keys=str(tmp_path))["curve keys"]
    assert not open_check.ok and open_check.advice == f"chmod 600 {secret}"
    secret.chmod(0o600)
    assert examine(curve_keys=str(tmp_path))["curve keys"].ok
    secret.unlink()
    assert not examine(curve_keys=str(tmp_path))["curve keys"].ok


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    assert check_folder("x", tmp_path).ok and list(tmp_path.iterdir()) == []
    assert not check_folder("x", tmp_path / "missing").ok


def test_missing_packages_come_with_the_command() -> None:
    check = check_packages("engine", ("numpy", "no-such-package-of-ours"), ".[engine]")
    assert not check.ok and "no-such-package-of-ours is missing" in check.detail
    assert check.advice == "run pip install '.[engine]'"


def test_a_core_installation_is_examined_too() -> None:
    """Without torch and OpenCV the doctor must still speak, and name the extra."""
    program = """
import sys
for name in ("torch", "cv2", "safetensors", "onnxruntime"):
    sys.modules[name] = None
from sim_bridge.tools.doctor import run_doctor
from sim_bridge.settings import BridgeSettings
checks = {check.name: check for check in run_doctor(BridgeSettings(output="tcp://127.0.0.1:*"))}
assert checks["core"].ok and checks["output"].ok
for name in ("device", "bundle"):
    assert not checks[name].ok and "pip install '.[engine]'" in checks[name].detail, checks[name]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
