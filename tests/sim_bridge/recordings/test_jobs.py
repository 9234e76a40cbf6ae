import json
from pathlib import Path

import pytest

from sim_bridge.errors import UsageError
from sim_bridge.recordings.jobs import folder_names, kept_names, plan, seeds_of
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.recordings.translate import Job, translate_recording
from sim_bridge.translators.null import NullTranslator
from tests.sim_bridge.recording_helpers import (
    TAXONOMY,
    class_ids,
    make_recording,
    picture,
    read_rgb,
    run_cli,
    site,
    write_rgb,
)

__all__ = ["site"]


def test_several_recordings_and_seeds_in_one_job(tmp_path: Path, site: Path) -> None:
    towns = [make_recording(tmp_path / "in" / name, [1, 2]) for name in ("town07", "town10")]
    arguments = ("translate", *towns, tmp_path / "out", "--bundle", "null", "--style-seeds", "0,3")
    done = run_cli(*arguments, site=site)
    assert done.returncode == 0, done.stderr
    for name in ("town07", "town10"):
        for seed in (0, 3):
            out = Recording.open(tmp_path / "out" / name / f"seed-{seed}")
            assert (out.info.translation or {})["seed"] == seed
            assert [(frame.number, frame.extra["seed"]) for frame in out.frames("camera")] == [(1, seed), (2, seed)]
            assert f"translate: {name}/seed-{seed}: 2 of 2 frames translated" in done.stderr
    again = run_cli(*arguments, site=site)
    assert again.returncode == 0
    assert again.stderr.count("0 of 2 frames translated, 2 were there already") == 4


def test_a_broken_frame_fails_the_job_at_its_end(tmp_path: Path, site: Path) -> None:
    towns = [make_recording(tmp_path / "in" / name, [1, 2]) for name in ("a", "b")]
    (towns[0] / "rgb" / "000001.png").write_bytes(b"")
    done = run_cli("translate", *towns, tmp_path / "out", "--bundle", "null", site=site)
    assert done.returncode == 1
    assert "translate: a: left out: frame 1 of camera 'camera'" in done.stderr
    assert len(Recording.open(tmp_path / "out" / "b")) == 2


def test_plan(tmp_path: Path) -> None:
    recordings = [Recording.open(make_recording(tmp_path / name, [1])) for name in ("a/town", "b/town", "c")]

    def places(count: int, seeds: list[int]) -> list[str]:
        return [str(task.destination.relative_to("out")) for task in plan(recordings[-count:], Path("out"), seeds)]

    assert places(1, [0]) == ["."]
    assert places(1, [0, 5]) == ["seed-0", "seed-5"]
    assert places(2, [7]) == ["town", "c"]
    assert places(3, [7])[:2] == ["a_town", "b_town"]
    with pytest.raises(UsageError, match="seed 5 is given twice"):
        plan(recordings, tmp_path / "out", [5, 5])
    with pytest.raises(UsageError, match="is given twice"):
        plan([recordings[0], recordings[0]], tmp_path / "out", [5])
    with pytest.raises(UsageError, match="is a recording itself"):
        plan(recordings, tmp_path / "c", [5])


def test_folder_names_of_one_are_its_own() -> None:
    assert folder_names([Path("/x/town")]) == ["town"]
    assert folder_names([Path("/a/x/town"), Path("/b/x/town")]) == ["a_x_town", "b_x_town"]
    assert len(set(folder_names([Path("/town"), Path("/a/town")]))) == 2


def test_seeds() -> None:
    assert seeds_of(None, None, 4) == [4]
    assert seeds_of("0, 1,2", None, 4) == [0, 1, 2]
    for text in ("0,,1", "a", "-1", "1.5", "", str(10**12)):
        with pytest.raises(UsageError, match="is not 0 to"):
            seeds_of(text, None, 0)
    with pytest.raises(UsageError, match="are both given"):
        seeds_of("0,1", 3, 3)


def foreign(root: Path, names: list[str]) -> Recording:
    for number, name in enumerate(names):
        write_rgb(root / "rgb" / name, picture(number))
        write_rgb(root / "seg" / name, class_ids(number))
    return Recording.foreign(root, rgb="rgb/**/*", semantic="seg/**/*", labels=TAXONOMY)


def test_names_are_kept(tmp_path: Path, site: Path) -> None:
    foreign(tmp_path / "in", ["a/frame 1.png", "a/frame 2.png", "b/frame 1.png"])
    globs = ("--rgb", "rgb/**/*", "--semantic", "seg/**/*", "--labels", TAXONOMY)
    arguments = ("translate", tmp_path / "in", tmp_path / "out", *globs, "--bundle", "null", "--format", "png")
    done = run_cli(*arguments, "--keep-names", site=site)
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(("a/frame 1", "a/frame 2", "b/frame 1")):
        assert (read_rgb(tmp_path / "out" / "photoreal" / f"{name}.png") == picture(number)).all()
        assert (read_rgb(tmp_path / "out" / "semantic" / f"{name}.png") == class_ids(number)).all()
    frames = list(Recording.open(tmp_path / "out").frames("camera"))
    assert [frame.files[Folder.PHOTOREAL].name for frame in frames] == ["frame 1.png", "frame 2.png", "frame 1.png"]
    assert "0 of 3 frames translated" in run_cli(*arguments, "--keep-names", site=site).stderr
    other = run_cli(*arguments, site=site)
    assert other.returncode == 2
    assert "was made with names 'kept', this run has 'numbers'" in other.stderr


def test_what_a_killed_run_left_under_kept_names_is_removed(tmp_path: Path) -> None:
    recording = foreign(tmp_path / "in", ["a/x1.png", "a/x2.png"])
    job = Job("null", keep_names=True)
    translate_recording(recording, tmp_path / "out", NullTranslator(), job)
    half = tmp_path / "out" / "semantic" / ".x3.png.partial"
    half.write_bytes(b"half")
    translate_recording(recording, tmp_path / "out", NullTranslator(), job)
    assert not half.exists()


@pytest.mark.parametrize("names", [["x/1.png", "x/1.jpg"], ["1\\2.png"]])
def test_names_that_cannot_be_kept_are_refused_before_anything_is_written(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / "in" / "rgb" / name).parent.mkdir(parents=True, exist_ok=True)
        write_rgb(tmp_path / "in" / "rgb" / name, picture(1))
    lines = [{"frame": number, "files": {"rgb": f"rgb/{name}"}} for number, name in enumerate(names)]
    if "\\" in names[0]:
        write_rgb(tmp_path / "in" / "seg" / names[0], class_ids(1))
        recording = Recording.foreign(tmp_path / "in", rgb="rgb/*", semantic="seg/*", labels=TAXONOMY)
    else:
        (tmp_path / "in" / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        recording = Recording.open(tmp_path / "in")
    with pytest.raises(UsageError, match="leave --keep-names out"):
        kept_names(recording)
    with pytest.raises(UsageError, match="leave --keep-names out"):
        translate_recording(
            recording, tmp_path / "out", NullTranslator(), Job("null", labels=TAXONOMY, keep_names=True)
        )
    assert not (tmp_path / "out").exists()
