"""One simulator for all tests of toytown that do not need another one: it takes a few seconds to build."""

import pytest

from plugins.toytown.run.setup import Setup
from plugins.toytown.run.simulator import Simulator
from plugins.toytown.view.cameras import MOUNTS

SIZE = (256, 128)


@pytest.fixture(scope="session")
def simulator() -> Simulator:
    """Seed 0 at noon, with three cameras."""
    pytest.importorskip("embreex", reason="toytown needs embreex: pip install '.[toytown]'")
    return Simulator(Setup(size=SIZE, mounts=tuple(MOUNTS[name] for name in ("front", "left", "right"))))
