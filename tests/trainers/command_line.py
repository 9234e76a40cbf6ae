"""``trainers/run.py`` called in this process, as the shell would."""

import sys
from typing import NamedTuple

import pytest

from trainers.run import main


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What it said about its failure, which must be one line."""
        assert self.code and "Traceback" not in self.err, self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.err.endswith(f"{line}\n")
        return line.removeprefix("error: ")


class CommandLine:
    """Calls the command; a fixture of :mod:`tests.trainers.conftest`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *self._capsys.readouterr())
