"""The network's threads share cores unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from sim_bridge.translators.threads import SPINS, halve_cores, share_cores


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"GOMP_SPINCOUNT": SPINS}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_users_settings_come_first(before: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(before)
    share_cores(environment)
    assert environment == after


@pytest.mark.parametrize(
    ("before", "cores", "threads"), [({}, 1, "1"), ({}, 2, "1"), ({}, 9, "4"), ({"OMP_NUM_THREADS": "3"}, 8, "3")]
)
def test_network_and_simulator_halve_the_cores(before: dict[str, str], cores: int, threads: str) -> None:
    environment = dict(before)
    halve_cores(environment, cores)
    assert environment == {"OMP_NUM_THREADS": threads}


def test_demo_halves_them_before_torch_is_imported() -> None:
    """Up to where the bundle is looked for, which is where torch comes in."""
    code = (
        "import os, sys; os.environ.pop('OMP_NUM_THREADS', None)\n"
        "import sim_bridge.translators.load as load\n"
        "import plugins.demo.command as command\n"
        "command._run = lambda *given: print('torch' in sys.modules, os.environ['OMP_NUM_THREADS']) or 0\n"
        "from sim_bridge.cli import main\n"
        "main(['demo', '--headless', '--bundle', 'null'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected: dict[str, str] = {}
    halve_cores(expected)
    assert done.stdout.split() == ["False", expected["OMP_NUM_THREADS"]], done.stderr


def test_cores_are_counted() -> None:
    environment: dict[str, str] = {}
    halve_cores(environment)
    assert 1 <= int(environment["OMP_NUM_THREADS"]) <= (os.cpu_count() or 1)


def test_command_line_sets_it_before_torch_is_imported() -> None:
    code = (
        "import os, sys; os.environ.pop('GOMP_SPINCOUNT', None); os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "from sim_bridge.cli import main\n"
        "before = 'torch' in sys.modules\n"
        "main(['--version'])\n"
        "print(before, os.environ.get('GOMP_SPINCOUNT'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"False {SPINS}"
