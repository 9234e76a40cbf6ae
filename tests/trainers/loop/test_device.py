"""Where a training runs: it says when the precision makes it slow."""

import logging

import pytest
import torch

from trainers.loop import device


@pytest.mark.parametrize(
    ("precision", "in_hardware", "warned"), [("bf16", False, 1), ("bf16", True, 0), ("fp32", False, 0)]
)
def test_emulated_bf16_is_named(
    precision: str, in_hardware: bool, warned: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda _: in_hardware)
    with caplog.at_level(logging.WARNING):
        device.warn_of_slow_precision(precision, torch.device("cpu"))
    assert len(caplog.records) == warned
    assert not warned or "add --set precision=fp32" in caplog.text
