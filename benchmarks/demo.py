"""Rate of ``sim-bridge demo`` with its page open in a real browser: ``python benchmarks/demo.py [--json FILE]``.

Simulator, network, page and a headless Chromium (which draws in software) share this machine's cores. The browser is
what ``SIM_BRIDGE_CHROMIUM`` names, or the system's ``chromium``; ``--no-browser`` measures without. Rates are those of
``/metrics``, counted by the bridge.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
SETTLE_SECONDS = 12.0
"""Start-up and the first frames are not measured."""
COUNTED = {
    "photoreal": 'sim_bridge_published_frames_total{camera="camera"}',
    "simulator": 'sim_bridge_received_messages_total{topic="camera/rgb"}',
    "superseded": 'sim_bridge_messages_total{topic="camera/rgb",outcome="superseded"}',
}


@contextlib.contextmanager
def demo(arguments: list[str]) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """The demo as a user starts it; its process, the page's address, and when it was started."""
    command = [sys.executable, "-c", "import sys; from sim_bridge.cli import main; sys.exit(main())", "demo"]
    began = time.monotonic()
    process = subprocess.Popen([*command, "--page", "0", *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"open (http://\S+)", line):
                yield process, found[1], began
                return
        raise SystemExit("the demo ended before its page was there")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def counters(address: str) -> dict[str, float]:
    """What has been counted so far, by the names of :data:`COUNTED`."""
    with urllib.request.urlopen(f"{address}metrics") as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, _, value in lines}
    return {name: values.get(metric, 0.0) for name, metric in COUNTED.items()}


def busy_seconds(demo_pid: int) -> dict[str, float]:
    """Processor seconds so far of the demo's processes and of the browser's."""
    seconds = dict.fromkeys(("bridge", "simulator", "browser"), 0.0)
    ours = psutil.Process(demo_pid)
    groups = {"bridge": [ours], "simulator": ours.children(recursive=True)}
    groups["browser"] = [p for p in psutil.process_iter(["name"]) if "chrom" in (p.info["name"] or "")]
    for name, processes in groups.items():
        for process in processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds[name] += times.user + times.system
    return seconds


@contextlib.contextmanager
def browser(address: str, *, wanted: bool) -> Iterator[None]:
    """The page in a window of a laptop's size."""
    if not wanted:
        yield
        return
    from playwright.sync_api import sync_playwright

    path = os.environ.get("SIM_BRIDGE_CHROMIUM") or shutil.which("chromium")
    if path is None:
        raise SystemExit("there is no Chromium: apt-get install chromium, set SIM_BRIDGE_CHROMIUM, or --no-browser")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        chromium.new_page(viewport={"width": 1440, "height": 900}).goto(address)
        yield
        chromium.close()


def measure(arguments: list[str], seconds: float, *, with_browser: bool) -> dict[str, object]:
    """Frames per second and processor time per photoreal frame."""
    load = os.getloadavg()[0]
    with demo(arguments) as (process, address, began), browser(address, wanted=with_browser):
        time.sleep(max(0.0, began + SETTLE_SECONDS - time.monotonic()))
        before, busy, start = counters(address), busy_seconds(process.pid), time.monotonic()
        time.sleep(seconds)
        after, used, took = counters(address), busy_seconds(process.pid), time.monotonic() - start
    rates = {name: round((after[name] - before[name]) / took, 2) for name in COUNTED}
    frames = max(1.0, after["photoreal"] - before["photoreal"])
    return {
        "frames_per_s": rates,
        "cpu_ms_per_frame": {name: round(1000 * (used[name] - busy[name]) / frames, 1) for name in used},
        "seconds": round(took, 1),
        "browser": with_browser,
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
    }


def main() -> None:
    """Writes the figures; flags that it does not know go to the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--json", type=Path)
    given, further = parser.parse_known_args()
    result = measure(further, given.seconds, with_browser=not given.no_browser)
    for name, value in result.items():
        sys.stdout.write(f"{name:18}{value}\n")
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
