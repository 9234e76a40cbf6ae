"""A simulator's process that is kept running: what ends it for good, and what it imports."""

import queue
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import plugins
from sim_bridge.process.parent import ChildRun
from sim_bridge.process.supervisor import RESTARTS, Supervisor

SECONDS = 60.0
FATAL = "failed 1 it was fatal"
CHILD = """
import json, os, sys
def main():
    asked = json.loads(sys.argv[1])
    import plugins
    print(plugins.__file__, flush=True)
    with open(asked["log"], "a") as log:
        log.write("x")
    run = os.path.getsize(asked["log"])
    print(*asked["runs"][min(run, len(asked["runs"])) - 1].split(";"), sep="\\n", flush=True)
    if "stay" in asked["runs"][min(run, len(asked["runs"])) - 1]:
        sys.stdin.read()
    return 3
"""


@pytest.fixture
def keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Supervisor, "queue.Queue[str]"]]]:
    """Starts one whose runs write these words; gives what happens, in order."""
    (tmp_path / "kept_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sim_bridge.process.supervisor.RESTART_SECONDS", 0.01)
    made: list[Supervisor] = []

    def start(*runs: str) -> tuple[Supervisor, "queue.Queue[str]"]:
        events: queue.Queue[str] = queue.Queue()

        def hear(line: str) -> None:
            events.put(line)

        asked: Mapping[str, object] = {"log": str(tmp_path / "log"), "runs": runs}
        kept = Supervisor(
            "kept_child",
            asked,
            wanted=lambda: True,
            on_failure=lambda error: events.put(f"failure: {error}"),
            on_change=lambda ended: events.put("ended" if ended else "stands"),
            on_line=hear,
        )
        made.append(kept)
        return kept, events

    yield start
    for kept in made:
        kept.close()


def until(events: "queue.Queue[str]", last: str) -> list[str]:
    """What happened, up to ``last``, without the paths."""
    seen: list[str] = []
    while not seen or not seen[-1].startswith(last):
        seen.append(events.get(timeout=SECONDS))
    return [event for event in seen if "/" not in event]


Keep = Callable[..., tuple[Supervisor, "queue.Queue[str]"]]


def test_a_first_one_that_does_not_stand_is_a_failure(keep: Keep) -> None:
    _, events = keep("word")
    assert until(events, "failure") == ["word", "failure: the simulator did not start (exit code 3): see above"]


def test_one_that_says_why_it_ends_is_not_started_again(keep: Keep) -> None:
    _, events = keep(f"ready;{FATAL}")
    assert until(events, "failure") == ["stands", FATAL, "failure: it was fatal"]


def test_one_that_stood_is_started_again_though_some_die_before_they_stand(keep: Keep) -> None:
    _, events = keep("ready", *["word"] * RESTARTS, "ready;stay")
    assert until(events, "stands") == ["stands"]
    assert until(events, "stands") == ["ended", *["word", "ended"] * RESTARTS, "stands"]


def test_one_that_dies_again_and_again_is_a_failure(keep: Keep) -> None:
    _, events = keep("ready", "word")
    assert until(events, "failure").count("word") == RESTARTS + 1


def test_a_child_imports_what_its_parent_does(tmp_path: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "plugins").mkdir(parents=True)
    (project / "plugins" / "__init__.py").touch()
    monkeypatch.chdir(project)
    _, events = keep("ready;stay")
    ours = plugins.__file__
    assert events.get(timeout=SECONDS) == ours
    asked = {"log": str(tmp_path / "other"), "runs": ["word"]}
    with ChildRun("kept_child", asked) as child:
        assert list(child) == [ours, "word"]
        assert child.code == 3
