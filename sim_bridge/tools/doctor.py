"""Looks whether this machine and these settings can run the bridge; core packages suffice to say what is missing."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zmq

from sim_bridge import __version__
from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.pixels.labels import LabelMap, Via
from sim_bridge.pixels.taxonomy import Taxonomies
from sim_bridge.sources import load_entry_point, load_source, source_names
from sim_bridge.translators.load import load_translator
from sim_bridge.wire.transport import KEY_NAME, CurveKeys, FrameSender, check_address

if TYPE_CHECKING:
    from sim_bridge.settings import BridgeSettings
    from sim_bridge.translators import Translator

DOCTOR_GROUP: Final = "sim_bridge.doctor"
"""Entry points by which packages add an :class:`Examination`."""

_CORE: Final = ("numpy", "pyzmq", "msgpack", "pyyaml", "pydantic", "typer")
_ENGINE: Final = ("torch", "safetensors", "opencv-python-headless")
_STAND_INS: Final = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
}
_OPTIONAL: Final = {
    "onnx": ("onnxruntime",),
    "train": ("torchvision", "tensorboard"),
    "carla": ("carla",),
    "open3d": ("open3d",),
}
_CONNECT_SECONDS: Final = 0.5
_LOW_DISK_BYTES: Final = 1 << 30
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What, in a word or two.
        ok: Whether the bridge can run with it.
        detail: What was found.
        advice: What to do when it is not ok; empty where ``detail`` already says so.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What a package adds to the doctor: the flag ``--NAME VALUE``, where NAME is that of its entry point.

    In its pyproject::

        [project.entry-points."sim_bridge.doctor"]
        mysim = "mysim.doctor:examination"

    Attributes:
        metavar: What the value is, as ``HOST:PORT``.
        examine: Makes the checks, of the value.
    """

    metavar: str
    examine: Callable[[str], Iterable[Check]]


def asked_examinations(words: Sequence[str]) -> list[tuple[Examination, str]]:
    """Reads ``--NAME VALUE`` and ``--NAME=VALUE`` of the examinations that packages bring.

    Args:
        words: What of the command line the doctor itself does not know.

    Raises:
        UsageError: There is no such flag, its value is missing, or its package cannot be loaded.
    """
    known = {entry.name: entry for entry in entry_points(group=DOCTOR_GROUP)}
    asked, rest = [], list(words)
    while rest:
        flag, given, value = rest.pop(0).partition("=")
        entry = known.get(flag.removeprefix("--")) if flag.startswith("--") else None
        if entry is None:
            flags = ", ".join(f"--{name}" for name in sorted(known)) or "none"
            raise UsageError(f"doctor does not know {flag!r}: see --help; further flags, of plugins, are {flags}")
        examination = load_entry_point(entry)
        if not isinstance(examination, Examination):
            raise UsageError(f"{entry.name!r} ({entry.value}) is no Examination: correct the package that brings it")
        if not given and not rest:
            raise UsageError(f"{flag} needs a value: {flag} {examination.metavar}")
        asked.append((examination, value if given else rest.pop(0)))
    return asked


def run_doctor(settings: BridgeSettings, examinations: Sequence[tuple[Examination, str]] = ()) -> list[Check]:
    """Makes all checks; none of them ends the others.

    Args:
        settings: The settings the bridge would run with.
        examinations: Further ones, each with its value.

    Returns:
        In the order in which to correct what is not ok.
    """
    checks = [
        check_packages("core", _CORE, "."),
        check_packages("engine", _ENGINE, ".[engine]"),
        check_extras(),
        _guarded("sources", check_sources),
        _guarded("device", lambda: check_device(settings)),
    ]
    checks += _check_bundle(settings)
    checks += [
        _guarded("input", lambda: check_input(settings)),
        _guarded("output", lambda: check_output(settings)),
        _guarded("curve keys", lambda: check_keys(settings)),
    ]
    return [
        *checks,
        check_folder("current folder", Path.cwd()),
        check_folder("temporary files", Path(tempfile.gettempdir())),
        *(check for examination, value in examinations for check in examination.examine(value)),
    ]


def check_packages(name: str, packages: Iterable[str], extra: str) -> Check:
    """Whether all of ``packages`` are installed, and in which versions."""
    found = {package: _version(package) for package in packages}
    missing = [package for package, number in found.items() if number is None]
    detail = ", ".join(f"{package} {number or 'is missing'}" for package, number in found.items())
    if name == "core":
        detail = f"sim-bridge {__version__}, python {platform.python_version()}, {sys.platform}, {detail}"
    return Check(name, not missing, detail, f"run pip install '{extra}'" if missing else "")


def check_extras() -> Check:
    """Which optional packages are there; none of them is needed for the bridge itself."""
    found = {extra: all(_version(package) for package in packages) for extra, packages in _OPTIONAL.items()}
    return Check("extras", True, ", ".join(f"{extra} {'yes' if there else 'no'}" for extra, there in found.items()))


def check_sources() -> Check:
    """Which simulators can be read from, ours and those that other packages bring.

    Raises UsageError when one of them cannot be loaded.
    """
    names = source_names()
    for name in names:
        load_source(name)
    return Check("sources", True, ", ".join(names) or "none")


def check_device(settings: BridgeSettings) -> Check:
    """Where the network would run. Raises SimBridgeError when the device is not there, or torch is not installed."""
    from sim_bridge.translators.device import choose_target, has_bf16

    target = choose_target(settings.device, settings.precision)
    hardware = "bf16 in hardware" if has_bf16(target.device) else "no bf16 in hardware"
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    busy = f", load average {load:.1f} on {cores} cores" + (" (busy: expect fewer frames)" if load > cores / 2 else "")
    return Check("device", True, f"{target.describe()}, {target.precision}, {hardware}{busy}")


def _check_bundle(settings: BridgeSettings) -> Iterator[Check]:
    """The bundle itself, and every taxonomy against its classes."""
    try:
        translator = load_translator(settings)
    except SimBridgeError as error:
        yield Check("bundle", False, str(error))
        return
    classes = f"{len(translator.classes)} classes" if translator.classes else "does not look at labels"
    yield Check("bundle", True, f"{translator.name}, model {translator.model_id}, {classes}")
    if not translator.classes:
        return
    try:
        taxonomies = Taxonomies.read(settings.taxonomies)
    except UsageError as error:
        yield Check("taxonomies", False, str(error))
        taxonomies = Taxonomies()
    for name in taxonomies.names():
        yield _guarded(f"labels {name}", partial(check_taxonomy, name, taxonomies, translator))


def check_taxonomy(name: str, taxonomies: Taxonomies, translator: Translator) -> Check:
    """How the classes of a taxonomy reach the bundle's.

    Raises LabelError when the bundle has no place for what is none of its classes.
    """
    report = LabelMap.build(taxonomies.named(name), translator.classes).report
    by_name = sum(line.via is Via.NAME for line in report)
    fallbacks = sum(line.via is Via.FALLBACK for line in report)
    lost = [line.source for line in report if line.via is Via.UNLABELED]
    detail = f"{by_name} classes by name, {fallbacks} by fallback"
    if lost:
        detail += f", {len(lost)} as unlabeled ({', '.join(lost)})"
    return Check(f"labels {name}", True, detail)


def check_input(settings: BridgeSettings) -> Check:
    """Whether somebody publishes already; if not, the bridge will wait.

    Raises UsageError when the address may not be used.
    """
    check_address(settings.input, encrypted=settings.curve_keys is not None, insecure=settings.insecure)
    if not settings.input.startswith("tcp://"):
        return Check("input", True, f"{settings.input}: the bridge waits there for a simulator")
    host, _, port = settings.input.removeprefix("tcp://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or "no answer"
        return Check("input", True, f"{settings.input}: nobody publishes there yet ({reason}); the bridge will wait")
    return Check("input", True, f"{settings.input}: somebody listens there")


def check_output(settings: BridgeSettings) -> Check:
    """Whether the output can be bound.

    Raises UsageError when it cannot: another process holds it, it is not of this machine, or it may not be used.
    """
    keys = None if settings.curve_keys is None else CurveKeys.load(settings.curve_keys)
    with (
        zmq.Context() as context,
        FrameSender(context, settings.output, keys=keys, insecure=settings.insecure) as sender,
    ):
        return Check("output", True, f"{sender.address} is free")


def check_keys(settings: BridgeSettings) -> Check:
    """Whether the CURVE keys can be read, and by nobody else.

    Raises UsageError when the keys are missing or damaged.
    """
    if settings.curve_keys is None:
        exposed = "allowed to leave this machine unencrypted" if settings.insecure else "not needed on this machine"
        return Check("curve keys", True, f"none, {exposed}")
    CurveKeys.load(settings.curve_keys)
    path = settings.curve_keys / f"{KEY_NAME}.key_secret"
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        return Check(
            "curve keys", False, f"{path} has mode {mode:o}: others may read the secret key", f"chmod 600 {path}"
        )
    return Check("curve keys", True, f"{path}")


def check_folder(name: str, folder: Path) -> Check:
    """Whether files can be written there."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(name, False, f"{folder} cannot be written ({error.strerror})", "work in a folder you may write to")
    gib = free / (1 << 30)
    if free < _LOW_DISK_BYTES:
        return Check(
            name, False, f"{folder} has {gib:.2f} GiB left", "free some space: recordings need about 1 MB a frame"
        )
    return Check(name, True, f"{folder} is writable, {gib:.0f} GiB left")


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check whose errors, which are sentences that say what to do, are its result."""
    try:
        return check()
    except SimBridgeError as error:
        return Check(name, False, str(error))


def _version(package: str) -> str | None:
    for name in (package, *_STAND_INS.get(package, ())):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return None
