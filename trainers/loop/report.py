"""Reports of a running training: ``stats.jsonl`` and a progress line."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final, TextIO

from torch import Tensor

from trainers.errors import TrainingError
from trainers.loop.board import Board
from trainers.loop.guard import ADVICE

LOSS: Final = "loss_"
"""Before a player's name: the weighted sum of its terms."""


class Collector:
    """Means of named values between two reports. Tensors are read only for a report: no step waits for the GPU."""

    def __init__(self) -> None:
        self._values: dict[str, list[float | Tensor]] = {}

    def add(self, **values: float | Tensor) -> None:
        """Notes a value by name."""
        for name, value in values.items():
            self._values.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def latest(self, count: int) -> dict[str, float]:
        """Sums of the last ``count`` values of each name, in the order in which the names were first added."""
        return {k: sum(float(v) for v in values[-count:]) for k, values in self._values.items()}

    def collect(self) -> dict[str, float]:
        """Means since the last call."""
        means = {k: sum(float(v) for v in values) / len(values) for k, values in self._values.items()}
        self._values.clear()
        return means


def check_finite(means: dict[str, float], step: int) -> None:
    """Stops a training whose losses are not finite.

    Raises:
        TrainingError: Names the first such loss and the step.
    """
    for name, value in means.items():
        if not math.isfinite(value):
            raise TrainingError(f"the loss {name!r} is {value} at step {step}: {ADVICE}")


class Progress:
    """A status line on a terminal, a line a report elsewhere, and ``stats.jsonl``.

    Rates are those of the last ten reports.

    Args:
        folder: The run's.
        steps: Of the whole training.
        start: Steps done so far; later rows of an earlier run are dropped.
        images: Samples of a step.
        stream: Receives the lines; None is stderr.
        board: Receives reports for TensorBoard.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        start: int = 0,
        images: int = 1,
        stream: TextIO | None = None,
        board: Board | None = None,
    ) -> None:
        self._file = folder / "stats.jsonl"
        self._forget_after(start)
        self._steps, self._images = steps, images
        self._began = time.perf_counter()
        self._recent = deque([(start, self._began)], maxlen=11)
        self._stream, self._board = stream or sys.stderr, board

    def _forget_after(self, start: int) -> None:
        if not self._file.is_file():
            return
        rows = self._file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text("".join(row for row in rows if _step_of(row, start + 1) <= start), encoding="utf-8")
        temporary.replace(self._file)

    def _rate(self, step: int) -> float:
        """Steps per second."""
        now = time.perf_counter()
        self._recent.append((step, now))
        first, began = self._recent[0]
        return (step - first) / max(now - began, 1e-9)

    def report(self, step: int, stage: str, values: dict[str, float]) -> None:
        """Writes one report.

        Args:
            step: Steps done.
            stage: Name of the part of the schedule.
            values: Losses and other numbers by name.
        """
        rate = self._rate(step)
        numbers = {
            "images": step * self._images,
            "seconds": round(time.perf_counter() - self._began, 1),
            "steps_per_s": round(rate, 3),
            "images_per_s": round(rate * self._images, 3),
            **{k: float(f"{v:.6g}") for k, v in values.items()},
        }
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "stage": stage, **numbers}) + "\n")
        if self._board is not None:
            self._board.report(step, numbers)
        self._say(step, stage, rate, {k[len(LOSS) :]: v for k, v in values.items() if k.startswith(LOSS)})

    def _say(self, step: int, stage: str, rate: float, losses: dict[str, float]) -> None:
        """The few numbers that tell a person whether it goes on; ``stats.jsonl`` has all."""
        left = (self._steps - step) / rate if rate else 0.0
        filled = 20 * step // self._steps
        bar = "#" * filled + "." * (20 - filled)
        told = "".join(f", loss {name} {value:.3g}" for name, value in losses.items())
        end = "\r" if self._stream.isatty() and step < self._steps else "\n"
        line = f"[{bar}] step {step} of {self._steps} ({stage}), {rate:.2f} steps/s, {left / 60:.0f} min left{told}"
        self._stream.write(f"{line}{end}")
        self._stream.flush()


def _step_of(row: str, otherwise: int) -> int:
    """The step of a row of ``stats.jsonl``; ``otherwise`` of one that was cut off when its process was killed."""
    try:
        return int(json.loads(row)["step"])
    except (ValueError, KeyError, TypeError):
        return otherwise
