"""The examples as a user runs them: processes of their own, talking over a real socket."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sim_bridge.client import Subscriber
from sim_bridge.frames import Frame, Kind
from sim_bridge.pixels.labels import LabelMap, taxonomy

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 60.0  # seconds; only a broken test waits this long


@pytest.fixture
def simulator() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The drawn street in a process, and the address it bound."""
    command = [sys.executable, str(EXAMPLES / "publish_any_simulator.py"), "--address", "tcp://127.0.0.1:*"]
    command += ["--size", "320x160", "--rate", "10", "--camera", "front"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"on (tcp://127\.0\.0\.1:\d+)", process.stdout.readline())
            assert address is not None
            yield process, address[1]
        finally:
            process.kill()


def read_pairs(address: str, count: int) -> list[tuple[Frame, Frame]]:
    pairs = []
    with Subscriber(address, camera="front", kinds=(Kind.RGB, Kind.SEMANTIC)) as subscriber:
        first = subscriber.next_frame(PATIENCE).number + 1
        for number in range(first, first + count):
            pair = [subscriber.frame(number, PATIENCE, kind=kind) for kind in (Kind.RGB, Kind.SEMANTIC)]
            pairs.append((pair[0], pair[1]))
    return pairs


def test_the_drawn_street_arrives_whole(simulator: tuple[subprocess.Popen[str], str]) -> None:
    process, address = simulator
    pairs = read_pairs(address, 5)
    source = taxonomy("carla-0.9.14")
    table = LabelMap.build(source, ("unlabeled", *list(source.ids.values())[1:]))
    for rgb, semantic in pairs:
        assert rgb.id == semantic.id
        assert (rgb.pixels.shape, semantic.pixels.shape) == ((160, 320, 3), (160, 320))
        assert semantic.labels == "carla-0.9.14"
        assert rgb.fov == 80.0
        assert rgb.pose is not None
        assert rgb.pose[1, 3] == pytest.approx(8.0 * rgb.time)
        labels = table.apply(np.asarray(semantic.pixels, np.uint8)).labels
        shares = np.bincount(labels.ravel(), minlength=29) / labels.size
        assert shares[1] > 0.15  # road
        assert shares[3] > 0.1  # building
        assert shares[11] > 0.03  # sky
        assert (shares > 0).sum() >= 9
        assert rgb.pixels.astype(float).std() > 30
    assert not np.array_equal(pairs[0][0].pixels, pairs[1][0].pixels)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_subscribe_prints_and_saves(simulator: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "subscribe.py"), "--address", simulator[1], "--camera", "front"]
    command += ["--kind", "rgb", "--frames", "3", "--save", str(tmp_path / "last.ppm")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(re.findall(r"^frame \d+ .* 320x160 rgb8", result.stdout, re.MULTILINE)) == 3
    data = (tmp_path / "last.ppm").read_bytes()
    assert data.startswith(b"P6 320 160 255\n")
    assert len(data) == 15 + 320 * 160 * 3


def test_subscribe_says_when_nothing_comes(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(EXAMPLES / "subscribe.py"),
        "--address",
        f"ipc://{tmp_path}/none",
        "--timeout",
        "0.05",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 1
    assert "did not come within 0.05 s" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_simulator_needs_three_packages_and_none_of_ours() -> None:
    """It shows that the wire takes no library: whatever it imports, every simulator would have to install."""
    tree = ast.parse((EXAMPLES / "publish_any_simulator.py").read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    packages = {module.partition(".")[0] for module in modules}
    assert packages - sys.stdlib_module_names == {"zmq", "msgpack", "numpy"}


@pytest.mark.parametrize("flags", [["--size", "0x5"], ["--size", "big"], ["--rate", "0"]])
def test_wrong_flags_are_refused(flags: list[str]) -> None:
    command = [sys.executable, str(EXAMPLES / "publish_any_simulator.py"), *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 2
    assert flags[0] in result.stderr


def test_an_address_in_use_is_a_sentence(simulator: tuple[subprocess.Popen[str], str]) -> None:
    command = [sys.executable, str(EXAMPLES / "publish_any_simulator.py"), "--address", simulator[1]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 1
    assert "cannot be bound" in result.stderr
    assert "Traceback" not in result.stderr
