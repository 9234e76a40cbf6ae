"""Times the embedded simulator, part by part: ``python benchmarks/toytown.py [--json FILE]``.

Ticks lie along the whole drive. The machine should be idle: the load average is written beside the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from plugins.toytown.looks.cg import CgLook
from plugins.toytown.run.setup import Setup
from plugins.toytown.run.simulator import Shot, Simulator
from plugins.toytown.town.town import Town
from plugins.toytown.town.traffic import Traffic
from plugins.toytown.view import truth
from plugins.toytown.view.moving import Moving
from plugins.toytown.view.presets import preset_named
from plugins.toytown.view.raycast import Backend
from plugins.toytown.view.scene import Scene
from plugins.toytown.view.view import View
from sim_bridge.settings import parse_size

LIVE = ("actors", "cast", "semantic", "cg")
"""The parts of a frame that the bridge is fed with."""
STRIDE = 21
"""Ticks from one measured frame to the next: the drive takes about 1300."""

Result = TypeVar("Result")


@dataclass
class Stopwatch:
    """Collects times by name, milliseconds: wall time, and the time that all threads computed."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    computed: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, call: Callable[[], Result]) -> Result:
        """Calls, and notes how long it took."""
        start, computed = time.perf_counter_ns(), time.process_time_ns()
        result = call()
        self.samples.setdefault(name, []).append((time.perf_counter_ns() - start) / 1e6)
        self.computed.setdefault(name, []).append((time.process_time_ns() - computed) / 1e6)
        return result


def measure_frames(simulator: Simulator, frames: int, photos: int) -> Stopwatch:
    """Times every part of that many frames; of the photo look, fewer."""
    watch = Stopwatch()
    mount = simulator.setup.mounts[0]
    lens = simulator.lens_of(mount)
    simulator.tick(0)[0].cg()
    for index in range(frames):
        moment = simulator.time_of(index * STRIDE)
        pose = simulator.pose_of(mount, moment)
        moving = watch.time("actors", lambda t=moment, p=pose: Moving.near(simulator.scene, t, p, lens))
        view = watch.time("cast", lambda m=moving, p=pose: View.trace(simulator.scene, m, lens, p))
        watch.time("semantic", lambda v=view: truth.semantic(v))
        watch.time("cg", lambda v=view: simulator.cg.render(v))
        shot = Shot(simulator, mount, mount.name, index, view)
        watch.time("instance", shot.instance)
        watch.time("flow", shot.flow)
        if index < photos:
            watch.time("photo", shot.photo)
    for times in (watch.samples, watch.computed):
        times["frame"] = [sum(parts) for parts in zip(*(times[name] for name in LIVE), strict=True)]
    return watch


def measure_start(setup: Setup) -> tuple[Simulator, dict[str, float]]:
    """Builds a simulator; seconds for each part of it, and for all together."""
    watch = Stopwatch()
    town = watch.time("town", lambda: Town.build(setup.seed, setup.traffic))
    scene = watch.time("scene", lambda: Scene(town, setup.preset, setup.backend))
    watch.time("cg_tables", lambda: CgLook(scene))
    simulator = watch.time("whole", lambda: Simulator(setup))
    return simulator, {name: round(samples[0] / 1000, 3) for name, samples in watch.samples.items()}


def report(setup: Setup, frames: int, photos: int) -> dict[str, object]:
    """All figures.

    Milliseconds by part: p50, p95, p99 of wall time, and p50 of computing on all threads. Frames per second are of
    CG and labels. Seconds to start; peak memory of this process, which has built two simulators, in MiB.
    """
    load_before = os.getloadavg()[0]
    simulator, start = measure_start(setup)
    watch = measure_frames(simulator, frames, photos)
    samples = watch.samples
    parts = {
        name: {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 95, 99)}
        | {"cpu": round(float(np.median(watch.computed[name])), 2)}
        for name, values in samples.items()
    }
    return {
        "size": list(setup.size),
        "backend": setup.backend,
        "traffic": setup.traffic,
        "preset": setup.preset.name,
        "frames": frames,
        "triangles": len(simulator.scene.town.static.triangles),
        "actors": len(simulator.scene.town.actors),
        "frames_per_s": round(1000 / float(np.mean(samples["frame"])), 1),
        "ms": parts,
        "start_s": start,
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cores": os.cpu_count(),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
    }


def as_table(figures: dict[str, object]) -> str:
    """The figures as lines of text."""
    lines = [f"{name:<14} {value}" for name, value in figures.items() if name != "ms"]
    parts = figures["ms"]
    assert isinstance(parts, dict)
    lines += ["", f"{'part':<14} {'p50':>9} {'p95':>9} {'p99':>9} {'cpu':>9}  ms"]
    lines += [f"{name:<14} " + " ".join(f"{value:9.2f}" for value in times.values()) for name, times in parts.items()]
    return "\n".join(lines)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="512x256", help="size of the images")
    parser.add_argument("--frames", type=int, default=60, help="how many frames")
    parser.add_argument("--photos", type=int, default=5, help="how many of them in the photo look, too")
    parser.add_argument("--preset", default="noon", help="weather and light")
    parser.add_argument("--traffic", type=Traffic, default=Traffic.NORMAL, help="how much moves")
    parser.add_argument("--backend", type=Backend, default=Backend.EMBREEX, help="what casts the rays")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    setup = Setup(
        preset=preset_named(asked.preset), traffic=asked.traffic, size=parse_size(asked.size), backend=asked.backend
    )
    figures = report(setup, asked.frames, asked.photos)
    sys.stdout.write(as_table(figures) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
