"""The benchmark measures the real bridge with a real second process, and leaves nothing behind."""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("cv2")

from sim_bridge.client import Subscriber
from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.live.latency import Stage
from sim_bridge.pixels.labels import taxonomy
from sim_bridge.tools import bench
from sim_bridge.tools.bench import DELIVERED, WARM_UP_FRAMES, BenchResult, _hear, _simulator, run_bench
from sim_bridge.tools.bench_source import CAMERA, SCENES, TAXONOMY, Plan, draw_street
from sim_bridge.translators import GpuTime
from tests.sim_bridge.recording_helpers import WAIT, running_cli, site

__all__ = ["site"]

SIZE = (96, 64)


def check_sums(result: BenchResult, frames: int) -> None:
    assert result.frames == frames
    assert sum(result.outcomes.values()) == frames
    assert result.delivered == result.outcomes["published"]
    for row in result.latency_ms.values():
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    assert result.latency_ms[Stage.END_TO_END]["p50"] < result.latency_ms[DELIVERED]["p50"]


def test_at_full_rate_every_frame_has_an_outcome() -> None:
    threads = threading.active_count()
    result = run_bench(size=SIZE, frames=60, bundle="null")
    check_sums(result, 60)
    assert result.frames_per_s > 20 and result.mode == "full" and result.rate is None
    assert multiprocessing.active_children() == [] and threading.active_count() == threads


def test_paced_it_keeps_the_rate() -> None:
    result = run_bench(size=SIZE, frames=30, bundle="null", mode="paced", rate=40.0)
    check_sums(result, 30)
    assert result.delivered >= 25  # a machine that is busy with other things may make it drop a few
    assert result.frames_per_s == pytest.approx(40.0, rel=0.25)


def test_the_result_is_a_table_and_json() -> None:
    result = run_bench(size=SIZE, frames=10, bundle="null", mode="paced", rate=100.0)
    values = json.loads(json.dumps(result.to_json()))
    assert values["frames_per_s"] == result.frames_per_s
    assert (values["width"], values["height"], values["bundle"], values["rate"]) == (96, 64, "null", 100.0)
    assert set(values["latency_ms"]) == {str(stage) for stage in Stage} | {DELIVERED}
    assert len(values["load_average"]) == 2
    table = result.to_table()
    for word in (
        "96x64",
        "paced at 100 frames/s",
        "load average",
        "p99",
        "preprocess",
        "postprocess",
        "bridge_overhead",
    ):
        assert word in table


def test_times_on_the_gpu_are_rows_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from tests.stand_in_cuda import replace_cuda

    replace_cuda(monkeypatch.setattr)
    seen: list[Sequence[GpuTime]] = []
    gpu_rows = bench._gpu_rows
    monkeypatch.setattr(bench, "_gpu_rows", lambda times: (seen.append(times), gpu_rows(times))[1])
    result = run_bench(bundle="camvid-lite", size=SIZE, frames=10, device="cpu")
    check_sums(result, 10)
    rows = [f"gpu_{part}" for part in GpuTime._fields]
    assert list(result.latency_ms) == [*map(str, Stage), *rows, DELIVERED]
    assert [len(times) for times in seen] == [result.outcomes["published"]], "those of the warm-up are left out"
    assert sum(result.latency_ms[row]["p50"] for row in rows) < 1.1 * result.latency_ms[Stage.NETWORK]["p50"]
    assert result.to_json()["latency_ms"]["gpu_kernels"] == result.latency_ms["gpu_kernels"]
    table = result.to_table().splitlines()
    assert [line.split()[0] for line in table if line.startswith("gpu_")] == rows


def test_without_a_gpu_it_has_no_rows_of_one() -> None:
    assert bench._gpu_rows(()) == {}


def test_a_bundle_that_cannot_be_loaded_ends_it_at_once() -> None:
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="nosuch"):
        run_bench(size=SIZE, frames=10, bundle="nosuch", device="cpu")
    assert multiprocessing.active_children() == []


def test_a_simulator_process_that_dies_is_told() -> None:
    with pytest.raises(SimBridgeError, match="ended early"), _simulator(Plan(96, 64, 1, 1, None)) as link:
        assert _hear(link, None).startswith("tcp://127.0.0.1:")
        (process,) = multiprocessing.active_children()
        process.kill()
        _hear(link, None)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_bench_takes_its_simulator_along(site: Path, number: signal.Signals) -> None:
    arguments = ("bench", "--bundle", "null", "--size", "96x64", "--frames", "1000000", "--rate", "100")
    with running_cli(*arguments, site=site) as bench:
        output = bench.wait_for_line("->").split("-> ")[1].split(",")[0]
        with Subscriber(output, camera=CAMERA) as subscriber:
            while subscriber.next_frame(WAIT).number < 2 * WARM_UP_FRAMES:  # it is in the middle of measuring
                pass
        children = psutil.Process(bench.process.pid).children(recursive=True)
        assert any("spawn_main" in " ".join(child.cmdline()) for child in children)
        bench.process.send_signal(number)
        bench.finish()
        gone, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()
    assert alive == []
    assert len(gone) == len(children)


@pytest.mark.parametrize(
    "arguments", [{"frames": 0}, {"frames": 5, "rate": 10.0}, {"frames": 5, "mode": "paced", "rate": -1.0}]
)
def test_impossible_orders_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run_bench(size=SIZE, bundle="null", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(16, 16), (97, 33), (512, 256)])
def test_the_drawn_street_is_a_street(size: tuple[int, int]) -> None:
    names = taxonomy(TAXONOMY).ids
    first, *others = [draw_street(*size, shift) for shift in range(SCENES)]
    bgra, ids = first
    assert bgra.shape == (size[1], size[0], 4) and ids.shape == (size[1], size[0])
    assert bgra.flags.c_contiguous and (bgra[..., 3] == 255).all()
    seen = {names[int(number)] for number in np.unique(ids)}
    assert {"road", "sky", "building"} <= seen
    assert all(not np.array_equal(bgra, other) for other, _ in others)
