"""What the tests of recordings and of the command line share: small captures on disk, the command line as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim_bridge.pixels.labels import taxonomy
from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter
from sim_bridge.translators import ByteArray

ROOT = Path(__file__).parents[2]
TAXONOMY = "carla-0.9.14"
WAIT = 60.0
"""Seconds after which a test gives up waiting for a process."""

data = pytest.mark.skipif(
    "SIM_BRIDGE_DATA" not in os.environ, reason="needs the real captures: set SIM_BRIDGE_DATA to their folder"
)


def data_folder() -> Path:
    """The folder of the real captures."""
    return Path(os.environ["SIM_BRIDGE_DATA"])


def picture(seed: int, size: tuple[int, int] = (48, 32)) -> ByteArray:
    """Noise, uint8 ``(H, W, 3)`` RGB: no two are alike and none survives a lossy step."""
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def class_ids(seed: int, size: tuple[int, int] = (48, 32)) -> ByteArray:
    """Random ids of :data:`TAXONOMY`, uint8 ``(H, W)``."""
    return np.random.default_rng(seed + 10_000).integers(0, 29, (size[1], size[0]), dtype=np.uint8)


def palette_image(ids: ByteArray, name: str = TAXONOMY) -> ByteArray:
    """The ids as colours, uint8 ``(H, W, 3)`` RGB."""
    table = np.zeros((256, 3), np.uint8)
    for number, color in taxonomy(name).palette.items():
        table[number] = color
    return table[ids]


def write_rgb(path: Path, rgb: ByteArray) -> None:
    """Writes a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb)


def read_rgb(path: Path) -> ByteArray:
    """Reads a PNG as RGB, or as it is when it has one channel."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return np.asarray(image[..., ::-1] if image.ndim == 3 else image, dtype=np.uint8)


def make_recording(
    root: Path, numbers: Sequence[int], *, cameras: Sequence[str] = ("camera",), size: tuple[int, int] = (48, 32)
) -> Path:
    """A recording in the project's layout; frame n shows ``picture(n)``, in a second camera ``picture(n + 1000)``."""
    info = RecordingInfo(taxonomy=TAXONOMY, session="drive-1", licence="CC0-1.0")
    with RecordingWriter(root, info, camera_folders=cameras != ("camera",)) as writer:
        for offset, camera in enumerate(cameras):
            for number in numbers:
                seed = number + 1000 * offset
                files = {
                    Folder.RGB: writer.write_image(camera, Folder.RGB, number, picture(seed, size)),
                    Folder.SEMANTIC: writer.write_image(camera, Folder.SEMANTIC, number, class_ids(seed, size)),
                }
                writer.add(RecordedFrame(camera, number, number * 0.05, None, files))
    return root


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that makes the entry points of pyproject.toml known, installed or not."""
    folder = tmp_path_factory.mktemp("site")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    write_distribution(folder, "sim-bridge", groups)
    return folder


def write_distribution(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """Writes what makes an installed package's entry points known."""
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def environment(*paths: Path, **variables: str) -> dict[str, str]:
    """This process's environment without settings of the user's, and with PYTHONPATH on the checkout and ``paths``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIM_BRIDGE_")}
    path = os.pathsep.join(str(entry) for entry in (*paths, ROOT))
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **variables}


def run_cli(
    *arguments: str | Path, site: Path, paths: Sequence[Path] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs ``sim-bridge`` as a process of its own to its end."""
    command = [sys.executable, "-m", "sim_bridge.cli", *(str(argument) for argument in arguments)]
    return subprocess.run(
        command,
        env=environment(*paths, site, **variables),
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


class RunningCli:
    """``sim-bridge`` as a process that is still running; its stderr is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait_for_line(self, part: str) -> str:
        """The next line of stderr that holds ``part``."""
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if part in line:
                return line
        raise AssertionError(f"{part!r} never came: {''.join(seen)}")

    def finish(self) -> tuple[int, str]:
        """Waits for the end; the exit code and the rest of stderr."""
        _, rest = self.process.communicate(timeout=WAIT)
        return self.process.returncode, rest

    def interrupt(self) -> tuple[int, str]:
        """Ends it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()


@contextmanager
def running_cli(*arguments: str | Path, site: Path) -> Iterator[RunningCli]:
    """Starts ``sim-bridge`` as a process; it is killed at the end of the block if it still runs."""
    command = [sys.executable, "-m", "sim_bridge.cli", *(str(argument) for argument in arguments)]
    process = subprocess.Popen(
        command, env=environment(site), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield RunningCli(process)
    finally:
        process.kill()
        process.communicate()
