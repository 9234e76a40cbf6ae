"""Devices and arithmetic: what is chosen, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sim_bridge.errors import UsageError

torch = pytest.importorskip("torch")

from sim_bridge.translators import device as device_module  # noqa: E402
from sim_bridge.translators.device import (  # noqa: E402
    choose_device,
    choose_target,
    cpu_features,
    cpu_name,
    has_bf16,
)

ZEN_5 = (
    "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nprocessor\t: 1\nflags\t\t: x\n"
)
SKYLAKE = "processor\t: 0\nmodel name\t: Xeon 8168\nflags\t\t: fpu avx2 avx512f avx512bw\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "expected"), [(ZEN_5, True), (SKYLAKE, False), (GRAVITON, True), ("", False)])
def test_bf16_is_what_the_processor_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    features = cpu_features(write(tmp_path, text))
    monkeypatch.setattr(device_module, "cpu_features", lambda: features)
    assert has_bf16(torch.device("cpu")) is expected
    assert choose_target("cpu", "auto").precision == ("bf16" if expected else "fp32")


def test_first_processor_counts(tmp_path: Path) -> None:
    assert cpu_features(write(tmp_path, ZEN_5)) == {"fpu", "avx2", "avx512f", "avx512_bf16"}


def test_without_cpuinfo_nothing_is_assumed(tmp_path: Path) -> None:
    assert cpu_features(tmp_path / "missing") == frozenset()
    assert cpu_name(tmp_path / "missing")


def test_a_precision_that_is_asked_for_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cpu_features", lambda: frozenset[str]())
    assert choose_target("cpu", "bf16").dtype is torch.bfloat16
    assert choose_target("cpu", "fp32").dtype is torch.float32


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "cuda:-1", "auto:0", ""])
def test_unknown_devices_are_named(name: str) -> None:
    with pytest.raises(UsageError, match="unknown"):
        choose_device(name)


def test_unknown_precision_is_named() -> None:
    with pytest.raises(UsageError, match="'fp16'"):
        choose_target("cpu", "fp16")


def test_missing_cuda_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="--device cpu"):
        choose_device("cuda:0")


def test_a_number_beyond_the_last_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="2 CUDA devices"):
        choose_device("cuda:2")


def test_bf16_is_asked_of_the_card_that_will_run(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [torch.device("cuda", 0)]

    @contextmanager
    def switched(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", switched)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1].index == 1)
    assert not has_bf16(torch.device("cuda", 0))
    assert has_bf16(torch.device("cuda", 1))
    assert current == [torch.device("cuda", 0)]


def test_description_names_the_processor() -> None:
    text = choose_target("cpu", "fp32").describe()
    assert text.startswith("cpu (") and "threads" in text
