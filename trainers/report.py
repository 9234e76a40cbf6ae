"""What a training says while it runs: ``stats.jsonl``, a progress line, and nothing that slows a step."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TextIO

from torch import Tensor

from sim_bridge.errors import SimBridgeError


class Collector:
    """Means of named values between two reports. Tensors are only read when a report is made."""

    def __init__(self) -> None:
        self._values: dict[str, list[float | Tensor]] = {}

    def add(self, **values: float | Tensor) -> None:
        """Notes one value each."""
        for name, value in values.items():
            self._values.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def collect(self) -> dict[str, float]:
        """Means since the last call."""
        means = {k: sum(float(v) for v in values) / len(values) for k, values in self._values.items()}
        self._values.clear()
        return means


def check_finite(means: dict[str, float], step: int) -> None:
    """Stops a training whose losses are no numbers any more.

    Raises:
        TrainingError: Names the first such loss and the step.
    """
    for name, value in means.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss {name!r} is {value} at step {step}: go on from the last checkpoint with --resume, and if it"
                " comes again lower the learning rates"
            )


class TrainingError(SimBridgeError):
    """A training cannot go on."""


class Progress:
    """One status line on a terminal, a line a report elsewhere; every report goes into ``stats.jsonl``."""

    def __init__(self, folder: Path, steps: int, start: int = 0, stream: TextIO = sys.stderr) -> None:
        self._file = folder / "stats.jsonl"
        self._forget_after(start)
        self._steps = steps
        self._first = start
        self._began = time.perf_counter()
        self._stream = stream

    def _forget_after(self, start: int) -> None:
        """Drops the rows of steps that an earlier run made after the checkpoint that this one goes on from."""
        if not self._file.is_file():
            return
        rows = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        self._file.write_text("".join(r for r in rows if json.loads(r)["step"] <= start), encoding="utf-8")

    def report(self, step: int, stage: str, means: dict[str, float]) -> None:
        """Writes one report, ``step`` steps being done."""
        seconds = time.perf_counter() - self._began
        rate = (step - self._first) / max(seconds, 1e-9)
        row = {"step": step, "stage": stage, "seconds": round(seconds, 1), "steps_per_s": round(rate, 3)}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {k: round(v, 5) for k, v in means.items()}) + "\n")
        left = (self._steps - step) / rate if rate else 0.0
        losses = " ".join(f"{k} {v:.3f}" for k, v in means.items())
        filled = 20 * step // self._steps
        bar = "#" * filled + "." * (20 - filled)
        line = f"[{bar}] {step}/{self._steps} {stage} {rate:.2f} steps/s, {left / 60:.0f} min left  {losses}"
        end = "\r" if self._stream.isatty() and step < self._steps else "\n"
        self._stream.write(line + end)
        self._stream.flush()
