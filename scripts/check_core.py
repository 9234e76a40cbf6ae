"""With the core alone installed: the client works without torch or OpenCV, and the bridge names its missing extra."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from sim_bridge.client import Publisher, Subscriber
from sim_bridge.frames import Encoding, Kind


def check_round_trip() -> None:
    """A frame published by the core's publisher arrives whole at the core's subscriber."""
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(6, 8, 3)
    with Publisher("tcp://127.0.0.1:*") as publisher, Subscriber(publisher.address, kinds=(Kind.RGB,)) as subscriber:
        for number in range(1, 200):  # a subscription takes effect when it does: publish until it has
            publisher.publish_image(
                "camera", Kind.RGB, number=number, time=number / 20, pixels=pixels, encoding=Encoding.RGB8
            )
            try:
                frame = subscriber.next_frame(timeout=0.05)
            except TimeoutError:
                continue
            if not np.array_equal(frame.pixels, pixels):
                raise SystemExit("the frame arrived changed")
            return
    raise SystemExit("no frame arrived in 10 seconds")


EXTRAS = {
    ("sim-bridge", "--topic", "camera"): "engine",
    ("sim-bridge", "demo"): "demo",
    ("sim-bridge", "toytown", "run"): "toytown",
    ("sim-bridge", "carla", "--spawn"): "carla,engine",
    ("python", "-m", "trainers.run", "train", "--recipe", "camvid_lite"): "train",
}
"""What each command needs, all of it at once."""


def check_commands_name_their_extras(folder: Path) -> None:
    """A command without its packages is one sentence and exit code 2."""
    for (program, *arguments), extra in EXTRAS.items():
        command = [folder / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        wrong = done.returncode != 2 or f"pip install '.[{extra}]'" not in done.stderr
        if wrong or len(done.stderr.strip().splitlines()) > 1:
            wanted = f"wanted 2 and '.[{extra}]'"
            raise SystemExit(f"{command}: exit code {done.returncode}, {wanted}; it said: {done.stderr}")


def check_bundles(bridge: Path) -> None:
    """What ships is listed without torch."""
    done = subprocess.run([bridge, "bundles"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode or "street-enhance" not in done.stdout:
        raise SystemExit(f"sim-bridge bundles: exit code {done.returncode}; it said: {done.stdout}{done.stderr}")


def main(bin_folder: Path) -> None:
    """Runs the checks."""
    start = time.perf_counter()
    for heavy in ("torch", "cv2"):
        if importlib.util.find_spec(heavy) is not None:
            raise SystemExit(f"{heavy} is installed: this must run in an environment with the core alone")
    check_round_trip()
    check_commands_name_their_extras(bin_folder)
    check_bundles(bin_folder / "sim-bridge")
    sys.stdout.write(
        f"core: client works without torch, commands name their extras ({time.perf_counter() - start:.1f} s)\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
