"""Threads that compute are awaited at the interpreter's end, those that hang are not."""

import subprocess
import sys
import time

import pytest

SCRIPT = """
import threading, time
from sim_bridge.process.ending import EndedFirst

def work():
    end = time.monotonic() + 5
    while time.monotonic() < end:
        sum(range(1000))
    print("done", flush=True)

thread = threading.Thread(target={target}, daemon=True)
thread.start()
ended_first = EndedFirst(lambda: print("asked", flush=True), [thread])
{then}
raise SystemExit(7)
"""


@pytest.mark.parametrize(
    ("target", "then", "said"),
    [
        ("work", "", "asked\ndone\n"),
        ("threading.Event().wait", "", "asked\n"),
        ("work", "ended_first.forget()", ""),
    ],
)
def test_a_process_ends_after_its_working_threads(target: str, then: str, said: str) -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(target=target, then=then)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, said), done.stderr
    assert time.monotonic() - start < 30
