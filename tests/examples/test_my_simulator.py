"""A newcomer's simulator: one file, found by its entry point, run by ``sim-bridge run`` in every way."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import psutil
import pytest
import zmq
import zmq.auth

from sim_bridge.client import Subscriber
from sim_bridge.frames import FrameStatus, Kind
from sim_bridge.wire.transport import KEY_NAME, CurveKeys, FrameReceiver
from tests.sim_bridge.recording_helpers import ROOT, WAIT, RunningCli, environment, run_cli, site, write_distribution

__all__ = ["site"]

PORT = "tcp://127.0.0.1:*"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The file as an installed package of somebody else's."""
    (tmp_path / "my_simulator.py").write_text((ROOT / "examples" / "my_simulator.py").read_text())
    write_distribution(tmp_path, "mysim", {"sim_bridge.sources": {"mysim": "my_simulator:MySimulator"}})
    return tmp_path


@contextmanager
def started(*arguments: str, paths: tuple[Path, ...]) -> Iterator[RunningCli]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sim_bridge.cli", *arguments],
        env=environment(*paths),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield RunningCli(process)
    finally:
        process.kill()
        process.communicate()


def order(running: RunningCli, line: str) -> None:
    assert running.process.stdin is not None
    running.process.stdin.write(f"{line}\n")
    running.process.stdin.flush()


def test_it_is_one_file_of_40_lines_with_a_bridge_beside_it(mine: Path, site: Path) -> None:
    assert len((mine / "my_simulator.py").read_text().splitlines()) <= 40
    inlet, outlet = f"ipc://{mine}/in", f"ipc://{mine}/out"
    bridge = ("--bundle", "null", "--input", inlet, "--output", outlet)
    simulator = ("run", "--source", "mysim", "--publish", inlet, "--wait", "60", "rate=50")
    with started(*bridge, paths=(site,)), started(*simulator, paths=(mine, site)) as running:
        with Subscriber(outlet) as subscriber:
            frames = list(islice(subscriber.frames(WAIT), 5))
        code, rest = running.interrupt()
    assert code == 0 and "run: published" in rest
    numbers = [frame.number for frame in frames]
    assert len(numbers) == 5 and numbers == sorted(set(numbers))
    assert all(frame.provenance and frame.provenance.status is FrameStatus.FRESH for frame in frames)


def test_it_is_stepped_by_orders_on_stdin(mine: Path, site: Path) -> None:
    arguments = ("run", "--source", "mysim", "--publish", PORT, "--orders", "rate=100", "--wait", "60")
    with started(*arguments, paths=(mine, site)) as running:
        address = running.wait_for_line("mysim on").split(" on ")[1].split(" ")[0]
        order(running, "pause")
        with Subscriber(address, kinds=(Kind.SEMANTIC,)) as subscriber:
            before = [frame.number for frame in subscriber.frames(1.0)]
            first = before[-1] if before else -1
            order(running, "step")
            assert subscriber.next_frame(WAIT).number == first + 1
            assert list(subscriber.frames(0.2)) == []
            order(running, "resume")
            assert subscriber.next_frame(WAIT).number == first + 2
        assert running.finish()[0] == 0, "the end of stdin ends it"


def test_a_kept_one_that_dies_is_started_again(mine: Path, site: Path) -> None:
    arguments = ("run", "--source", "mysim", "--publish", f"ipc://{mine}/in", "--keep", "rate=100")
    with started(*arguments, paths=(mine, site)) as running:
        first = int(running.wait_for_line("in process").split()[-1])
        psutil.Process(first).kill()
        second = int(running.wait_for_line("in process").split()[-1])
        assert second != first
        code, rest = running.interrupt()
    assert code == 0 and "run: stopped" in rest
    assert not psutil.pid_exists(second)


def test_a_kept_one_ends_by_itself_after_the_ticks_asked_for(mine: Path, site: Path) -> None:
    done = run_cli(
        "run", "--source", "mysim", "--publish", PORT, "--keep", "--frames", "5", "rate=1000", site=site, paths=(mine,)
    )
    assert done.returncode == 0, done.stderr
    assert "run: published 5 ticks" in done.stderr


@pytest.mark.parametrize("keep", [(), ("--keep",)])
def test_keys_keep_strangers_out(keep: tuple[str, ...], mine: Path, site: Path) -> None:
    for folder in ("ours", "theirs"):
        (mine / folder).mkdir()
        zmq.auth.create_certificates(mine / folder, KEY_NAME)
    ours, theirs = CurveKeys.load(mine / "ours"), CurveKeys.load(mine / "theirs")
    stranger = CurveKeys(ours.public, theirs.secret, theirs.folder)  # knows the server's key, has none that is listed
    arguments = ("run", "--source", "mysim", "--publish", PORT, "--curve-keys", str(ours.folder), *keep, "rate=100")
    with started(*arguments, paths=(mine, site)) as running:
        address = running.wait_for_line("mysim on").split(" on ")[1].split(" ")[0].rstrip(",")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, FrameReceiver(context, address, ["camera/"], keys=ours) as friend:
            assert friend.receive(WAIT) is not None
            with FrameReceiver(context, address, ["camera/"], keys=stranger) as refused:
                assert refused.receive(1.0) is None
            assert friend.receive(WAIT) is not None
        assert running.interrupt()[0] == 0


def test_lockstep_makes_a_tick_when_the_one_before_is_answered(mine: Path, site: Path) -> None:
    inlet, outlet = f"ipc://{mine}/in", f"ipc://{mine}/out"
    bridge = ("--bundle", "null", "--mode", "lockstep", "--input", inlet, "--output", outlet)
    simulator = ("run", "--source", "mysim", "--mode", "lockstep", "--publish", inlet, "--photoreal", outlet)
    with started(*bridge, paths=(site,)):
        done = run_cli(*simulator, "--frames", "5", "rate=1000", site=site, paths=(mine,))
    assert done.returncode == 0, done.stderr
    assert "run: published 5 ticks" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--source", "mysym"), 2, "there is no source 'mysym': did you mean 'mysim'?"),
        (("--source", "toytown", "seed=-1"), 2, "the toytown option 'seed' is -1: it should be greater"),
        (("--source", "toytown", "--keep", "seed=-1"), 2, "the toytown option 'seed' is -1: it should be greater"),
        (("--source", "mysim", "rate"), 2, "the option 'rate' has no value: write it as key=value"),
        (("--source", "mysim", "rate=1", "rate=2"), 2, "the option 'rate' is given twice"),
        (("--source", "mysim", "--wait", "0.05"), 1, "nobody subscribed within 0.05 s"),
        (("--source", "mysim", "--mode", "fast"), 2, "'realtime' or 'lockstep'"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: tuple[str, ...], code: int, sentence: str, mine: Path, site: Path
) -> None:
    done = run_cli("run", "--publish", PORT, *arguments, site=site, paths=(mine,))
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert sentence in done.stderr
