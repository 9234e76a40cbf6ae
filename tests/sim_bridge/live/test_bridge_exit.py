"""A script with a bridge in its process ends with its own exit code, whatever the network does at that moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

SCRIPT = """
import os, signal, sys, tempfile, threading
import numpy as np
from sim_bridge.client import Publisher
from sim_bridge.live.bridge import Bridge
from sim_bridge.settings import BridgeSettings
from sim_bridge.translators.sflow import SFlowTranslator

working = threading.Event()

class Working(SFlowTranslator):
    def warm_up(self, sizes, batch=1):
        pass

    def translate(self, shots):
        working.set()
        return super().translate(shots)

folder = tempfile.TemporaryDirectory()
where = f"ipc://{folder.name}/in", f"ipc://{folder.name}/out"
publisher = Publisher(where[0])
settings = BridgeSettings(input=where[0], output=where[1], topics=("camera",), drain_timeout=0.1)
bridge = Bridge(settings, lambda: Working.load("camvid-lite", device="cpu", precision="fp32"))
thread = threading.Thread(target=bridge.run, daemon=True)
thread.start()
assert bridge.wait_until_ready(60)
for kind in ("rgb", "semantic"):
    publisher.wait_for_subscriber("camera", kind, 60)
publisher.publish_image("camera", "rgb", number=1, time=0, pixels=np.zeros((720, 1280, 3), np.uint8), encoding="rgb8")
publisher.publish_image("camera", "semantic", number=1, time=0, pixels=np.zeros((720, 1280), np.uint8),
                        encoding="mono8", labels="camvid")
assert working.wait(60)
{end}
"""
CLOSED = """
bridge.stop()
thread.join()
"""
ENDS = {
    "end": ("", 0),
    "end after the bridge's": (CLOSED, 0),
    "exception": (CLOSED + "raise ValueError('of the script')", 1),
    "exit": ("sys.exit(3)", 3),
    "interrupt": ("os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(60)", -signal.SIGINT),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("runs", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_script_ends_with_its_own_exit_code_while_the_network_works(end: str, runs: int) -> None:
    code, expected = ENDS[end]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.replace("{end}", code)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        assert "terminate called" not in done.stderr
        assert ("ValueError: of the script" in done.stderr) == (end == "exception")
