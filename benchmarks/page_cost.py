"""What the live page costs the bridge: frames/s and network latency with nobody, one page, and one that does not read.

The three are measured in turn, several rounds of each against one running bridge, so that whatever else the machine
does falls on all of them alike.

    python -m benchmarks.page_cost --bundle camvid-lite --rounds 4 --seconds 10
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.sim_bridge.page.page_helpers import WebClient

ROOT = Path(__file__).parents[1]
WATCHERS = ("nobody", "one page", "one that does not read")
SIMULATOR = "tcp://127.0.0.1:25655"


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends with the block."""
    started = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        started.terminate()
        started.communicate()


def read_metrics(address: str) -> tuple[float, float]:
    """Photoreal frames published so far, and the median of the network's last frames in ms."""
    with urllib.request.urlopen(address + "metrics") as answer:
        text = answer.read().decode()
    published = re.search(r"sim_bridge_published_frames_total\{.*\} (\S+)", text)
    network = re.search(r'latency_seconds\{stage="network",quantile="0.50"\} (\S+)', text)
    return (float(published[1]) if published else 0.0, 1e3 * float(network[1]) if network else 0.0)


@contextlib.contextmanager
def watching(kind: str, port: int) -> Iterator[list[int]]:
    """Looks at the page as ``kind`` says; the frames that were received, to be counted afterwards."""
    seen: list[int] = []
    if kind == WATCHERS[0]:
        yield seen
        return
    client = WebClient(port, receive_buffer=4096 if kind == WATCHERS[2] else None)
    client.watch(panels=("cg", "photoreal", "labels", "dned"))
    if kind == WATCHERS[2]:
        yield seen
        client.close()
        return

    def read() -> None:
        with contextlib.suppress(OSError):
            while True:
                seen.append(client.tick()["cg"].header["frame"])

    reader = threading.Thread(target=read)
    reader.start()
    yield seen
    client.shut_down()
    reader.join()
    client.close()


def measure(address: str, kind: str, seconds: float) -> tuple[float, float]:
    """Frames/s of the bridge and of the page over a time."""
    with watching(kind, urlsplit(address).port or 0) as seen:
        before, start = read_metrics(address)[0], time.perf_counter()
        time.sleep(seconds)
        after, took = read_metrics(address)[0], time.perf_counter() - start
        return (after - before) / took, len(seen) / took


def main() -> None:
    """Reads the flags, measures, prints a line per kind of watcher."""
    parser = argparse.ArgumentParser(description="Measure what the live page costs the bridge.")
    parser.add_argument("--bundle", default="camvid-lite")
    parser.add_argument("--size", default="512x256")
    parser.add_argument("--rate", default="30", help="frames per second of the simulator (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    flags = parser.parse_args()
    bridge_flags = ["--input", SIMULATOR, "--output", "tcp://127.0.0.1:*", "--bundle", flags.bundle, "--page", "0"]
    with (
        process(
            "examples/publish_any_simulator.py", "--address", SIMULATOR, "--size", flags.size, "--rate", flags.rate
        ),
        process("-m", "sim_bridge.cli", *bridge_flags) as bridge,
    ):
        assert bridge.stderr is not None
        address = next(line for line in bridge.stderr if "the page is at" in line).split()[-1]
        while read_metrics(address)[0] < 20:
            time.sleep(0.2)
        rates: dict[str, list[tuple[float, float]]] = {kind: [] for kind in WATCHERS}
        for _ in range(flags.rounds):
            for kind in WATCHERS:
                rates[kind].append(measure(address, kind, flags.seconds))
        for kind, values in rates.items():
            mine, page = (statistics.median(column) for column in zip(*values, strict=True))
            sys.stdout.write(f"{kind:<24} bridge {mine:6.2f} frames/s   page {page:6.2f} frames/s\n")


if __name__ == "__main__":
    main()
