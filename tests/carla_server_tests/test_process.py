"""The stand-in as a process: when it ends."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60.0


def start(stdin: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.carla_server", "--port=0"],
        cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["port"] > 0
    return process


def test_it_ends_with_the_pipe_of_its_orders() -> None:
    with start(subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SECONDS) == 0


def test_without_a_pipe_it_serves_until_a_signal() -> None:
    """As under nohup, in a service, or in CI."""
    with start(subprocess.DEVNULL) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == -signal.SIGTERM
