"""TensorBoard beside ``stats.jsonl``: the same numbers as curves, and the sample sheets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim_bridge.errors import MissingExtraError
from sim_bridge.pixels.images import read_image

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def summary_writer() -> type[SummaryWriter]:
    """The class that writes TensorBoard's files.

    Raises:
        MissingExtraError: The package ``tensorboard`` is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as e:
        raise MissingExtraError("tensorboard", "train", "--tensorboard") from e
    return SummaryWriter


class Board:
    """Writes into ``FOLDER/tensorboard``; ``tensorboard --logdir FOLDER`` shows it.

    Args:
        folder: The run's.
        step: Steps done so far; what an earlier run wrote of later ones is hidden.

    Raises:
        MissingExtraError: The package ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._writer = summary_writer()(str(folder / "tensorboard"), purge_step=step + 1)

    def report(self, step: int, row: dict[str, float]) -> None:
        """Adds one report's numbers, by name."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def sheet(self, step: int, path: Path) -> None:
        """Adds the sample sheet that was written to ``path``."""
        self._writer.add_image("samples", read_image(path)[..., ::-1], step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
