"""The demo as a user starts it: real processes, a real film, one Ctrl-C, a simulator that is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Queue

import pytest

pytest.importorskip("embreex", reason="the demo's simulator needs the extra 'toytown'")
av = pytest.importorskip("av", reason="the demo's film needs the extra 'demo'")

import cv2  # noqa: E402
import psutil  # noqa: E402

from plugins.demo.simulator import SimulatorProcess  # noqa: E402
from plugins.toytown.run.source import ToytownSource  # noqa: E402
from sim_bridge.errors import SimBridgeError  # noqa: E402
from sim_bridge.process.child import ANSWERED, note_answer, obey  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
QUICK = ["--bundle", "null", "--size", "128x64", "--traffic", "sparse"]
SECONDS = 120.0


def start(*arguments: str, new_group: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "import sys; from sim_bridge.cli import main; sys.exit(main())", "demo"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*command, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        process_group=0 if new_group else None,
    )


def wait_for(process: subprocess.Popen[str], part: str) -> None:
    assert process.stderr is not None
    seen = []
    while line := process.stderr.readline():
        seen.append(line)
        if part in line:
            return
    raise AssertionError(f"{part!r} was never said:\n{''.join(seen)}")


def simulator_of(process: subprocess.Popen[str]) -> psutil.Process:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if "sim_bridge.process.source_child" in child.cmdline():
                return child
    raise AssertionError("the demo has no simulator process")


def test_headless_writes_a_film_a_sheet_and_statistics(tmp_path: Path) -> None:
    process = start("--headless", "--frames", "12", "--out", str(tmp_path / "new"), *QUICK)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    statistics = json.loads((tmp_path / "new" / "demo.json").read_text())
    assert statistics["frames"] == 12 and statistics["frames_per_s"] > 0 and statistics["first_frame_s"] > 0
    for account in statistics["counters"].values():
        assert account["received"] == sum(value for name, value in account.items() if name != "received")
    with av.open(str(tmp_path / "new" / "demo.mp4")) as film:
        (stream,) = film.streams.video
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
    assert stream.codec_context.name == "h264" and len(pictures) == 12
    assert pictures[0].shape == (128, 256, 3) and pictures[0][:64, :128].std() > 10
    sheet = cv2.imread(str(tmp_path / "new" / "demo.png"))
    assert sheet is not None and sheet.std() > 10


def test_a_killed_simulator_is_started_again_as_a_new_session(tmp_path: Path) -> None:
    process = start("--headless", "--frames", "400", "--rate", "60", "--out", str(tmp_path), *QUICK)
    wait_for(process, "first photoreal frame")
    simulator_of(process).kill()
    wait_for(process, "it is started again")
    wait_for(process, "session")  # of the next one: its frames go through
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 1  # fewer frames than asked for, and it says so


def test_a_signal_to_the_whole_group_ends_it_and_starts_nothing_again(tmp_path: Path) -> None:
    process = start("--headless", "--frames", "100000", "--out", str(tmp_path), *QUICK, new_group=True)
    wait_for(process, "first photoreal frame")
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "started again" not in said


def test_only_answers_to_this_simulator_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.toytown.run.source.FIRST_PATIENCE_SECONDS", SECONDS)
    source, orders = ToytownSource(), Queue[str]()
    source.open({"size": (64, 32), "traffic": "sparse", "rate": 0, "ahead": 1})
    made = threading.Semaphore(0)

    def read() -> None:
        for _ in source.ticks():
            made.release()

    threads = [
        threading.Thread(target=read, daemon=True),
        threading.Thread(
            target=obey,
            args=(source, iter(orders.get, "end"), source.close, lambda words: note_answer(source, words)),
            daemon=True,
        ),
    ]
    for thread in threads:
        thread.start()
    try:
        assert made.acquire(timeout=SECONDS)
        for nonsense in (f"{ANSWERED} of-the-one-before 7\n", "\n", "jump\n", f"{ANSWERED}\n"):
            orders.put(nonsense)
        assert not made.acquire(timeout=0.3)
        orders.put(f"{ANSWERED} {source.session} 0\n")
        assert made.acquire(timeout=SECONDS)
    finally:
        orders.put("end")  # as the end of stdin
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_a_simulator_that_does_not_start_is_one_sentence() -> None:
    failures: list[SimBridgeError] = []
    failed = threading.Event()

    def fail(error: SimBridgeError) -> None:
        failures.append(error)
        failed.set()

    address = "tcp://127.0.0.1:*"
    with SimulatorProcess(address, {"seed": -1}, wanted=lambda: True, on_failure=fail) as simulator:
        assert failed.wait(SECONDS)
        simulator.tell("resume")  # as the bridge does when it stops; nobody is there to be told
    assert failures[0].exit_code == 2
    assert "the toytown option 'seed' is -1: it should be greater than or equal to 0" in str(failures[0])


def test_the_end_of_the_simulator_and_its_return_are_told() -> None:
    told: Queue[bool] = Queue()
    options = {"size": (64, 32), "traffic": "sparse"}
    with SimulatorProcess(
        "tcp://127.0.0.1:*", options, wanted=lambda: True, on_failure=lambda error: None, on_change=told.put
    ) as simulator:
        assert told.get(timeout=SECONDS) is False
        os.kill(simulator.pid, signal.SIGKILL)
        assert told.get(timeout=SECONDS) is True
        assert told.get(timeout=SECONDS) is False


def test_closing_does_not_wait_for_the_town_to_be_built() -> None:
    with SimulatorProcess("tcp://127.0.0.1:*", {}, wanted=lambda: True, on_failure=lambda error: None) as simulator:
        pid = simulator.pid
        assert not simulator.ready.is_set()
    assert not psutil.pid_exists(pid)


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "demo.mp4").mkdir()
    process = start("--headless", "--frames", "3", "--out", str(tmp_path), *QUICK)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "cannot be written" in said and "Traceback" not in said


def test_ctrl_c_ends_page_bridge_and_simulator() -> None:
    process = start("--page", "0", *QUICK)
    wait_for(process, "open http://127.0.0.1:")
    wait_for(process, "first photoreal frame")
    simulator = simulator_of(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert not simulator.is_running() or simulator.status() == psutil.STATUS_ZOMBIE


def test_the_simulator_ends_with_a_demo_that_was_killed() -> None:
    process = start("--page", "0", *QUICK)
    wait_for(process, "first photoreal frame")
    simulator = simulator_of(process)
    process.kill()
    process.communicate(timeout=SECONDS)
    _, alive = psutil.wait_procs([simulator], SECONDS)
    assert not alive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "fog"], "fog"),
        (["--bundle", "no-such"], "no-such"),
        (["--size", "nonsense"], "nonsense"),
    ],
)
def test_wrong_flags_are_one_sentence(arguments: list[str], message: str) -> None:
    process = start(*arguments, "--page", "0")
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2 and message in said and "Traceback" not in said


def test_a_port_in_use_is_one_sentence() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--page", str(taken.getsockname()[1]), *QUICK)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2 and "in use" in said and "Traceback" not in said
