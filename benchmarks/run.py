"""Measures everything that docs/benchmarks.md promises and writes the figures there: ``python benchmarks/run.py``.

Exit code 1 when a promise is missed; the figures are written all the same, and the last lines say which it was.

Takes about six minutes on two cores. Nothing else should run meanwhile: the load average is written beside every row.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sim_bridge.translators.threads import share_cores

share_cores()  # as the command line does, before torch is imported

from benchmarks import frame_path
from sim_bridge.tools.bench import BenchResult, run_bench

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: benchmarks/run.py -->", "<!-- end of figures -->"
STAGES = ("network", "preprocess", "postprocess", "bridge_overhead", "end_to_end", "delivered")


@dataclass(frozen=True)
class Promise:
    """What a figure must not be beyond."""

    what: str
    measure: Callable[[BenchResult], float]
    limit: float
    unit: str
    at_least: bool = False

    def missed_by(self, result: BenchResult) -> str | None:
        """What to say when the result does not keep it."""
        value = self.measure(result)
        if value >= self.limit if self.at_least else value <= self.limit:
            return None
        bound = "at least" if self.at_least else "at most"
        return f"{self.what} is {value:.2f} {self.unit}, promised is {bound} {self.limit:g} {self.unit}"


def _overhead(limit: float) -> Promise:
    return Promise("bridge_overhead p99", lambda result: result.latency_ms["bridge_overhead"]["p99"], limit, "ms")


RATE = Promise("the rate", lambda result: result.frames_per_s, 25.0, "frames/s", at_least=True)
AROUND_NETWORK = Promise(
    "preprocess and postprocess p50",
    lambda result: result.latency_ms["preprocess"]["p50"] + result.latency_ms["postprocess"]["p50"],
    2.0,
    "ms",
)


@dataclass(frozen=True)
class Case:
    """One run of the bridge, and what is promised of it."""

    bundle: str
    size: tuple[int, int]
    frames: int
    mode: Literal["full", "paced"]
    rate: float | None = None
    promises: tuple[Promise, ...] = ()

    def run(self) -> BenchResult:
        """Measures it."""
        return run_bench(size=self.size, frames=self.frames, bundle=self.bundle, mode=self.mode, rate=self.rate)

    @property
    def command(self) -> str:
        """The command line that measures the same."""
        pace = "" if self.rate is None else f" --rate {self.rate:g}"
        return (
            f"sim-bridge bench --bundle {self.bundle} --size {self.size[0]}x{self.size[1]} --frames {self.frames}{pace}"
        )


CASES = (
    Case("camvid-lite", (512, 256), 1000, "full", promises=(RATE, AROUND_NETWORK)),
    Case("camvid-lite", (512, 256), 1000, "paced", 20.0, promises=(AROUND_NETWORK,)),
    Case("camvid-lite", (768, 384), 300, "full"),
    Case("null", (512, 256), 2000, "paced", 25.0, promises=(_overhead(3.0), AROUND_NETWORK)),
    Case("null", (1280, 720), 2000, "paced", 25.0, promises=(_overhead(8.0),)),
)


def as_markdown(cases: list[tuple[Case, BenchResult]], rows: list[frame_path.Row]) -> str:
    """All figures as one block of Markdown."""
    first = cases[0][1]
    versions = ", ".join(f"{name} {number}" for name, number in first.versions.items())
    today = f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}"
    lines = [
        f"Measured on {today}, {first.device}, {first.precision}, {first.cpus} cores; {versions}.",
        "",
        "Milliseconds are p50 / p95 / p99.",
        "",
        "| command | frames/s | delivered | " + " | ".join(STAGES) + " | load before / after |",
        "|---|---|---|" + "---|" * (len(STAGES) + 1),
    ]
    for case, result in cases:
        cells = [" / ".join(f"{result.latency_ms[stage][p]:.2f}" for p in ("p50", "p95", "p99")) for stage in STAGES]
        load = " / ".join(f"{value:.2f}" for value in result.load_average)
        delivered = f"{result.delivered} of {result.frames}"
        lines.append(f"| `{case.command}` | {result.frames_per_s:.1f} | {delivered} | {' | '.join(cells)} | {load} |")
    return "\n".join([*lines, "", "`python benchmarks/frame_path.py`:", "", frame_path.as_markdown(rows)])


def missed_promises(cases: list[tuple[Case, BenchResult]]) -> list[str]:
    """One sentence for each promise that a result does not keep."""
    problems = ((case, promise.missed_by(result)) for case, result in cases for promise in case.promises)
    return [f"{case.command}: {problem}" for case, problem in problems if problem]


def write_page(page: Path, block: str) -> None:
    """Puts the figures between the page's marks."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} lacks the lines {BEGIN} and {END}: put them where the figures belong")
    page.write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Measures, and writes the page and, if asked, a JSON file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the frames, for a quick look")
    parser.add_argument("--bundle", help="measure this bundle in place of camvid-lite")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write the figures into")
    parser.add_argument("--json", type=Path, help="file for all results")
    arguments = parser.parse_args()
    rows = frame_path.measure_all()
    cases = []
    for case in CASES:
        frames = max(50, round(case.frames * arguments.share))
        bundle = arguments.bundle if arguments.bundle and case.bundle != "null" else case.bundle
        asked = replace(case, frames=frames, bundle=bundle)
        sys.stderr.write(f"{asked.command}\n")
        cases.append((asked, asked.run()))
        sys.stderr.write(cases[-1][1].to_table() + "\n\n")
    write_page(arguments.page, as_markdown(cases, rows))
    if arguments.json:
        results = [{"command": case.command, **result.to_json()} for case, result in cases]
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    missed = missed_promises(cases)
    for problem in missed:
        sys.stderr.write(f"promise missed: {problem}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
