"""What runs only on CUDA, on stand-ins: the tests that need a GPU, a capture that fails, times, arithmetic."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.edges import EdgeSettings  # noqa: E402
from models.nets.sflow import SFlowNetwork  # noqa: E402
from sim_bridge.translators.cuda import GraphRunner, full_float32  # noqa: E402
from tests.stand_in_cuda import capture, replace_cuda  # noqa: E402

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent.relative_to(ROOT)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> GraphRunner:
    replace_cuda(monkeypatch.setattr)
    torch.manual_seed(0)
    return GraphRunner(SFlowNetwork("lite", 4, EdgeSettings()).eval(), torch.device("cpu"))


def frame(value: int = 0) -> tuple[Any, ...]:
    rgb = np.full((1, 32, 64, 3), value, np.uint8)
    rgb[:, 8:20, 8:40] = 200
    return rgb, np.zeros((1, 32, 64), np.uint8), torch.full((1, 6), 1 / 6)


def test_the_tests_that_need_a_gpu_pass_on_a_stand_in() -> None:
    """A wrong parameter or call in them would otherwise be found on the first day with a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "tests.stand_in_cuda", "-n0", str(HERE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_times_on_the_gpu_are_told_apart(runner: GraphRunner) -> None:
    runner.run(*frame())
    assert not runner.gpu_times, "no graph, no events"
    runner.warm_up(64, 32)
    runner.run(*frame())
    (times,) = runner.gpu_times
    assert min(times.copy_in, times.kernels, times.copy_out) > 0
    assert runner.eager_frames == 1


def test_a_failed_capture_leaves_its_pool_to_nobody(
    runner: GraphRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pools: list[object] = []
    emptied: list[bool] = []

    def refusing(graph: Any, **settings: Any) -> Any:
        pools.append(settings["pool"])
        if len(pools) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory\nwith a page of statistics")
        return capture(graph)

    monkeypatch.setattr(torch.cuda, "graph", refusing)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    for width in (64, 96, 32, 128):
        runner.warm_up(width, 32)
    assert pools[0] is pools[1] and pools[2] is pools[3] and pools[1] is not pools[2]
    assert emptied == [True]
    assert "no CUDA graph for 1 x 96x32 (CUDA out of memory): these frames run eagerly" in caplog.text
    runner.run(*frame())
    assert runner.eager_frames == 0, "graphs that were made before still run"


def test_a_size_that_was_not_warmed_up_runs_without_a_graph(
    runner: GraphRunner, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first, second = runner.run(*frame(30)), runner.run(*frame(30))
    runner.warm_up(64, 32)
    captured = runner.run(*frame(30))
    assert runner.eager_frames == 2 and caplog.text.count("was not warmed up") == 1
    for eager, other, graph in zip(first, second, captured, strict=True):
        np.testing.assert_array_equal(eager, other)
        np.testing.assert_array_equal(eager, graph)


def precisions() -> tuple[Any, ...]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


def test_float32_is_not_tf32(runner: GraphRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    before, translate = precisions(), runner._network.translate

    def noting(*inputs: Any) -> Any:
        seen.append(precisions())
        return translate(*inputs)

    monkeypatch.setattr(runner._network, "translate", noting)
    runner.run(*frame())
    runner.warm_up(64, 32)
    assert len(seen) == 5 and set(seen) == {("ieee", "ieee")}
    assert precisions() == before


def test_the_setting_for_float32_is_put_back_after_an_error() -> None:
    before = precisions()
    with pytest.raises(ValueError, match="in between"), full_float32():
        assert precisions() == ("ieee", "ieee")
        raise ValueError("in between")
    assert precisions() == before
