"""A simulator in a process of its own: publishes a plan when told to, and when the bridge has subscribed."""

from __future__ import annotations

import json
import sys
import time

from sim_bridge.frames import Frame, Kind
from tests.sim_bridge.bridge_helpers import Plan, Simulator, make_frame


def say(**fields: object) -> None:
    """One JSON line for the test."""
    print(json.dumps(fields), flush=True)


def main() -> None:
    """Reads the plan from the command line and carries it out."""
    options = json.loads(sys.argv[1])
    plan = Plan(**{**options, "size": tuple(options["size"])})
    simulator = Simulator(plan.address, hwm=64)
    say(address=simulator.address)
    sys.stdin.readline()
    simulator.wait_for_subscriptions()
    messages = plan.messages()
    start = time.perf_counter()
    for index, (kind, number) in enumerate(messages):
        if plan.rate and index % 2 == 0:
            time.sleep(max(0.0, start + index / (2 * plan.rate) - time.perf_counter()))
        simulator.send(_frame(plan, kind, number))
    say(sent=len(messages), seconds=time.perf_counter() - start)
    simulator.close()


def _frame(plan: Plan, kind: Kind, number: int) -> Frame:
    return make_frame(kind, number, plan.session, size=plan.size)


if __name__ == "__main__":
    main()
