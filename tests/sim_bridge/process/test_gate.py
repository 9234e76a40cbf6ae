"""The pause gate: pause, single steps, lanes, nudges."""

import threading

from sim_bridge.process.gate import Gate

SECONDS = 20.0


def always() -> bool:
    return True


def test_an_open_gate_lets_everything_through_and_counts_no_steps() -> None:
    gate = Gate()
    gate.step()
    assert [gate.admit() for _ in range(3)] == [True] * 3
    gate.pause()
    assert gate.paused and not gate.admit()


def test_a_step_lets_one_through_on_every_lane() -> None:
    gate = Gate(("left", "right"))
    gate.pause()
    gate.step()
    assert gate.admit("left") and not gate.admit("left")
    assert gate.admit("right") and not gate.admit("right")


def test_pausing_again_forgets_steps() -> None:
    gate = Gate()
    gate.pause()
    gate.step()
    gate.pause()
    assert not gate.admit()


def test_waiting_threads_go_on_with_a_step_a_nudge_or_a_resume() -> None:
    gate, passed = Gate(), threading.Semaphore(0)
    answers: list[bool] = []
    gate.pause()

    def wait() -> None:
        for _ in range(3):
            answers.append(gate.admit(wait=True))
            passed.release()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    for act in (gate.step, gate.nudge, gate.resume):
        act()
        assert passed.acquire(timeout=SECONDS)
    thread.join(SECONDS)
    assert answers == [True, False, True]


def test_passing_asks_both_conditions() -> None:
    gate = Gate()
    gate.pause()
    assert not gate.pass_one(lambda: False)
    gate.step()
    asked = iter([False, False, True])
    assert gate.pass_one(always, lambda: next(asked))
    left = iter([True, True, False])
    assert not gate.pass_one(lambda: next(left)), "the step is used up"
