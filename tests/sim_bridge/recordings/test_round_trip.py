"""What ``translate`` accepts it writes so that everything can read it: numbers, stamps and names survive."""

import os
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.replay.source import ReplaySource
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray, Kind
from sim_bridge.pixels.images import encode_png
from sim_bridge.recordings.origins import SOURCE
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.recordings.sheet import CG, PHOTOREAL
from sim_bridge.recordings.sheet_rows import open_sources, recorded_rows
from sim_bridge.recordings.translate import Job, translate_recording
from sim_bridge.settings import BridgeSettings
from sim_bridge.translators.null import NullTranslator
from tests.sim_bridge.recording_helpers import (
    TAXONOMY,
    class_ids,
    make_recording,
    picture,
    run_cli,
    site,
)

__all__ = ["site"]
SIZE = (20, 16)


class Source(NamedTuple):
    """A folder to be made."""

    layout: Literal["foreign", "folders", "manifest"]
    names: tuple[str, ...]
    cameras: tuple[str, ...]
    keep_names: bool
    image_format: Literal["png", "jpg"]


def _is_name(text: str) -> bool:
    return 0 < len(text.encode(errors="surrogateescape")) < 100 and "/" not in text and "\0" not in text


TEXTS = st.text(alphabet="ab_-. é\udcdf\\\n:'\"%٣²日0123456789", min_size=1, max_size=8)
NUMBERS = st.one_of(st.integers(0, 12), st.integers(2**63 - 2, 2**64 + 1), st.integers(0, 10**25))
NAMES = st.one_of(
    TEXTS,
    NUMBERS.map(str),
    NUMBERS.map(lambda number: f"{number:06d}"),
    st.decimals(0, 2 * 10**9, places=3).map(lambda seconds: f"{seconds:.3f}"),
    st.tuples(st.sampled_from(["town", "a_1"]), NUMBERS).map(lambda parts: f"{parts[0]}_{parts[1]}"),
).filter(_is_name)
SOURCES = st.builds(
    Source,
    layout=st.sampled_from(["foreign", "foreign", "folders", "manifest"]),
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True).map(tuple),
    cameras=st.sampled_from([("camera",), ("left", "rgb"), ("seed-0",)]),
    keep_names=st.booleans(),
    image_format=st.sampled_from(["png", "jpg"]),
)


def write(path: Path, image: ByteArray) -> None:
    """As ``write_rgb``, whose OpenCV knows no names that are no UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def make(source: Source, root: Path) -> Recording:
    """Raises UsageError for a folder that no command would take."""
    if source.layout == "manifest":
        numbers = {int(name) for name in source.names if name.isascii() and name.isdigit() and int(name) < 2**64}
        if not numbers:
            raise UsageError("no numbers")
        return Recording.open(make_recording(root, sorted(numbers), cameras=source.cameras, size=SIZE))
    single = source.layout == "foreign" or source.cameras == ("camera",)
    for camera in ("",) if single else source.cameras:
        for index, name in enumerate(source.names):
            write(root / camera / "rgb" / f"{name}.png", picture(index, SIZE))
            write(root / camera / "semantic" / f"{name}.png", class_ids(index, SIZE))
    if source.layout == "foreign":
        return Recording.foreign(root, rgb="rgb/*.png", semantic="semantic/*.png", labels=TAXONOMY)
    return Recording.open(root)


def replayed(folder: Path) -> set[tuple[str, int]]:
    source = ReplaySource()
    source.open({"folder": folder, "rate": 0})
    frames = list(source)
    assert source.problems == {}
    assert {frame.kind for frame in frames} == {Kind.RGB, Kind.SEMANTIC}
    return {(frame.camera, frame.number) for frame in frames}


def check_everything_reads(root: Path, frames: set[tuple[str, int]], job: Job) -> None:
    out = Recording.open(root)
    assert {(frame.camera, frame.number) for camera in out.cameras() for frame in out.frames(camera)} == frames
    assert replayed(root) == frames
    sheet = recorded_rows(open_sources([root], [], [], []), BridgeSettings(bundle="null"), count=3)
    assert sheet.problems == []
    assert all({CG, PHOTOREAL} <= row.images.keys() for row in sheet.rows)
    again = root.with_name(f"{root.name}-again")
    report = translate_recording(out, again, NullTranslator(), job)
    assert report.left_out == []
    reread = Recording.open(again)
    assert {(frame.camera, frame.number) for camera in reread.cameras() for frame in reread.frames(camera)} == frames


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SOURCES)
def test_what_translate_accepts_everything_reads(source: Source) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = Job("null", labels=TAXONOMY, image_format=source.image_format, keep_names=source.keep_names)
        try:
            recording = make(source, Path(folder, "in"))
            report = translate_recording(recording, Path(folder, "out"), NullTranslator(), job)
        except UsageError:
            assert not Path(folder, "out").exists(), "refused after something was written"
            return
        assert report.left_out == []
        frames = {(frame.camera, frame.number) for camera in recording.cameras() for frame in recording.frames(camera)}
        check_everything_reads(Path(folder, "out"), frames, job)
        out = Recording.open(Path(folder, "out"))
        for camera in out.cameras():
            for before, after in zip(recording.frames(camera), out.frames(camera), strict=True):
                origin = before.files[Folder.RGB]
                assert after.extra[SOURCE] == origin.relative_to(recording.root).as_posix(), "the name survives"
                assert after.time == before.time
                if source.keep_names:
                    assert after.files[Folder.PHOTOREAL].stem == origin.stem


def test_names_that_are_no_utf8(tmp_path: Path, site: Path) -> None:
    folder = tmp_path / os.fsdecode(b"s\xebt")
    for number in (1, 2, 3):
        for kind, image in (("rgb", picture(number)), ("sem", class_ids(number))):
            write(folder / kind / os.fsdecode(b"stra\xdfe_%d.png" % number), image)
    globs = ("--rgb", "rgb/*.png", "--semantic", "sem/*.png", "--labels", TAXONOMY, "--bundle", "null")
    for flags in ((), ("--keep-names",)):
        out = tmp_path / f"out{len(flags)}"
        done = run_cli("translate", folder, out, *globs, *flags, site=site)
        assert done.returncode == 0, done.stderr
        frames = list(Recording.open(out).frames("camera"))
        sources = [frame.extra[SOURCE] for frame in frames]
        assert sources == [os.fsdecode(b"rgb/stra\xdfe_%d.png" % number) for number in (1, 2, 3)]
        assert all((folder / str(source)).is_file() for source in sources)
        assert b"stra\\udcdfe_1.png" in (out / "manifest.jsonl").read_bytes()
        sheet = run_cli("sheet", out, tmp_path / "sheet.png", "--bundle", "null", site=site)
        assert sheet.returncode == 0, sheet.stderr
        again = run_cli("translate", out, tmp_path / f"{out.name}-again", "--bundle", "null", site=site)
        assert again.returncode == 0, again.stderr
