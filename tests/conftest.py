"""What holds for all tests, and what several parts of them need."""

from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from hypothesis import settings

# A busy machine is no failure: speed is measured by the benchmarks, not by the tests.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: tests that run side by side must not fight for cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files' folder of an empty torch hub on a machine without internet."""
    import torch

    def unreachable(*_arguments: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    return tmp_path / "hub" / "checkpoints"
