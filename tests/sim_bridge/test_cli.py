import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

import sim_bridge
from sim_bridge.cli import main
from sim_bridge.client import Subscriber
from sim_bridge.frames import Encoding, FrameStatus, Kind
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.settings import BridgeSettings, flag_of
from tests.sim_bridge.recording_helpers import (
    WAIT,
    environment,
    make_recording,
    picture,
    run_cli,
    running_cli,
    site,
    write_distribution,
)

__all__ = ["site"]

ANY_PORT = "tcp://127.0.0.1:*"


def test_version(site: Path) -> None:
    done = run_cli("--version", site=site)
    assert (done.returncode, done.stdout) == (0, f"sim-bridge {sim_bridge.__version__}\n")


def test_help_has_every_setting_and_command(site: Path) -> None:
    done = run_cli("--help", site=site)
    assert done.returncode == 0
    for name in BridgeSettings.model_fields:
        assert flag_of(name) in done.stdout
    commands = done.stdout.partition("Commands:")[2]
    for command in ("translate", "sheet", "bench", "doctor", "bundles", "replay"):
        assert f"  {command} " in commands
    assert "..." not in commands, "a command's first sentence is too long for the list"
    assert "Exit codes" in done.stdout


def test_show_config_is_yaml_on_stdout(tmp_path: Path, site: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("pair_window: 3\nbundle: from-file\n")
    flags = ("--config", config, "--topic", "left", "--topic", "right", "--size", "64x32", "--no-insecure")
    done = run_cli(*flags, "--show-config", site=site, SIM_BRIDGE_BUNDLE="from-environment")
    assert done.returncode == 0
    shown = yaml.safe_load(done.stdout)
    assert shown["topics"] == ["left", "right"]
    assert (shown["pair_window"], shown["bundle"], shown["size"]) == (3, "from-environment", "64x32")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--mode", "fast"), "'realtime' or 'lockstep'"),
        (("--nope",), "--nope"),
        (("translte",), "translte"),
        (("--config", "none.yaml"), "none.yaml cannot be read"),
        (("--input", "tcp://192.0.2.1:5555", "--bundle", "null", "--output", ANY_PORT), "--insecure"),
        (("--style-seed", "x"), "style-seed"),
        (("--page", "70000"), "less than or equal to 65535"),
        (("--page", "0", "--page-host", "0.0.0.0"), "set SIM_BRIDGE_PAGE_TOKEN to 16 characters or more"),
        (("--page", "0", "--page-host", "0.0.0.0", "--page-token", "short"), "at least 16 characters"),
        (("sheet", "out.png"), "give SRC folders, or --live"),
        (("sheet", "in", "out.gif"), "end in .png or .jpg"),
        (("bench", "--size", "big"), "write it like 512x256"),
        (("--size", "big", "bench"), "write it like 512x256"),
        (("--mode", "bogus", "replay", "."), "--mode before the command 'replay' says nothing to it: leave it out"),
        (("--insecure", "replay", "."), "--insecure before the command 'replay' says nothing to it: give it after"),
        (("--config", "x.yaml", "replay", "."), "--config before the command 'replay' says nothing to it"),
        (("--topic", "left", "translate", "a", "b"), "--topic before the command 'translate' says nothing to it"),
        (("--style-seed", "0", "bench"), "--style-seed before the command 'bench' says nothing to it"),
        (("--bundle", "null", "bundles"), "--bundle before the command 'bundles' says nothing to it"),
        (("--mode", "bogus", "doctor"), "'realtime' or 'lockstep'"),
        (("bench", "--bundle", "nope"), "bundle 'nope' is neither a folder with a card.json nor"),
        (("--bundle", "/tmp", "--output", ANY_PORT), "bundle '/tmp' is neither a folder with a card.json nor"),
        (("bench", "--bundle", "nope.onnx"), "nope.onnx cannot be read"),
    ],
)
def test_users_mistakes_end_with_two_and_a_sentence(arguments: tuple[str, ...], part: str, site: Path) -> None:
    done = run_cli(*arguments, site=site)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--debug", "translate", "/none", "/out"], ["translate", "/none", "/out", "--debug"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert "Traceback" in error
        assert error.endswith("sim-bridge: there is no folder /none: check the path\n")


def test_a_bug_is_a_sentence_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("sim_bridge.cli.open_recording", broken)
    assert main(["translate", "/in", "/out"]) == 1
    assert "a bug: ZeroDivisionError: division by zero (--debug shows where" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("cv2", ["translate", "{recording}", "{out}", "--bundle", "null"]),
        ("cv2", ["sheet", "{recording}", "{out}.png"]),
        ("cv2", ["replay", "{recording}", "--wait", "0", "--address", ANY_PORT]),
        ("torch", ["--output", ANY_PORT]),
        ("cv2", ["--output", ANY_PORT, "--bundle", "null"]),
        ("torch", ["translate", "{recording}", "{out}"]),
    ],
)
def test_core_installation_names_the_extra(tmp_path: Path, site: Path, missing: str, arguments: list[str]) -> None:
    root = make_recording(tmp_path / "in", [1])
    filled = [part.format(recording=root, out=tmp_path / "out") for part in arguments]
    code = f"import sys; sys.modules[{missing!r}] = None; from sim_bridge.cli import main; sys.exit(main({filled!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(site), capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "pip install '.[engine]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "wsproto"])
def test_the_page_names_its_extra(missing: str, site: Path) -> None:
    arguments = ["--output", ANY_PORT, "--bundle", "null", "--page", "0"]
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from sim_bridge.cli import main; sys.exit(main({arguments!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(site), capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"the live page needs the package {missing!r}" in done.stderr and "pip install '.[page]'" in done.stderr


def test_the_page_runs_with_the_bridge_and_ends_with_it(site: Path) -> None:
    arguments = ("--bundle", "null", "--output", ANY_PORT, "--page", "0")
    with running_cli(*arguments, site=site) as bridge:
        address = bridge.wait_for_line("the page is at http://127.0.0.1:").split()[-1]
        bridge.wait_for_line("is ready")
        with urllib.request.urlopen(address + "healthz", timeout=WAIT) as answer:
            assert json.load(answer) == {"state": "running"}
        port = address.rstrip("/").rpartition(":")[2]
        second = run_cli("--bundle", "null", "--output", ANY_PORT, "--page", port, site=site)
        assert second.returncode == 2
        assert f"the page's address 127.0.0.1:{port} is in use" in second.stderr and "Traceback" not in second.stderr
        code, said = bridge.interrupt()
        assert code == 0 and "Traceback" not in said


def test_broken_plugin_does_not_break_the_rest(tmp_path: Path, site: Path) -> None:
    (tmp_path / "brokenplugin.py").write_text("import not_there_at_all\n")
    (tmp_path / "oddplugin.py").write_text("app = 7\n")
    entries = {"broken": "brokenplugin:app", "odd": "oddplugin:app", "bench": "brokenplugin:app"}
    write_distribution(tmp_path, "broken-plugin", {"sim_bridge.commands": entries})
    listed = run_cli("--help", site=site, paths=[tmp_path])
    assert listed.returncode == 0
    assert listed.stdout.count("(cannot be loaded)") == 2
    called = run_cli("broken", "--any", "flag", site=site, paths=[tmp_path])
    assert called.returncode == 2
    assert (
        "'broken' of broken-plugin cannot be loaded (ModuleNotFoundError: No module named 'not_there" in called.stderr
    )
    assert "Traceback" not in called.stderr
    odd = run_cli("odd", site=site, paths=[tmp_path])
    assert odd.returncode == 2
    assert "is no typer.Typer" in odd.stderr
    assert run_cli("--version", site=site, paths=[tmp_path]).returncode == 0


def test_a_plugin_cannot_take_a_commands_place(tmp_path: Path, site: Path) -> None:
    (tmp_path / "greedy.py").write_text("import typer\napp = typer.Typer()\n@app.command()\ndef f(): print('greedy')\n")
    write_distribution(
        tmp_path, "greedy-plugin", {"sim_bridge.commands": {"bundles": "greedy:app", "extra": "greedy:app"}}
    )
    assert "greedy" not in run_cli("bundles", "--help", site=site, paths=[tmp_path]).stdout
    assert run_cli("extra", site=site, paths=[tmp_path]).stdout == "greedy\n"


def test_flags_before_a_command_count_for_it(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "in", [1])
    done = run_cli("--bundle", "null", "--style-seed", "4", "translate", root, tmp_path / "out", site=site)
    assert done.returncode == 0, done.stderr
    (frame,) = Recording.open(tmp_path / "out").frames("camera")
    assert frame.extra["seed"] == 4
    again = run_cli(
        "--style-seed", "4", "translate", root, tmp_path / "o2", "--style-seed", "6", "--bundle", "null", site=site
    )
    assert again.returncode == 0
    assert next(Recording.open(tmp_path / "o2").frames("camera")).extra["seed"] == 6


def test_size_before_bench_is_its_size(site: Path) -> None:
    done = run_cli("--size", "64x32", "--log-level", "error", "bench", "--bundle", "null", "--frames", "5", site=site)
    assert done.returncode == 0, done.stderr
    assert "64x32" in done.stdout


def test_bridge_process_on_a_replay_process(tmp_path: Path, site: Path) -> None:
    """The main command end to end: every frame arrives with its identity, and Ctrl-C ends all in good order."""
    root = make_recording(tmp_path / "in", range(100, 110))
    replaying = ("replay", root, "--address", ANY_PORT, "--rate", "50", "--loop")
    with running_cli(*replaying, site=site) as replay:
        simulator = replay.wait_for_line("waiting for a subscriber").split(" on ")[1].split(",")[0]
        flags = ("--input", simulator, "--output", ANY_PORT, "--bundle", "null", "--topic", "camera")
        with running_cli(*flags, site=site) as bridge:
            output = bridge.wait_for_line("->").split("-> ")[1].split(",")[0]
            with Subscriber(output, kinds=(Kind.PHOTOREAL,), buffer=64) as subscriber:
                frames = [subscriber.next_frame(WAIT) for _ in range(25)]
                sheet = run_cli(
                    *("sheet", "--live", tmp_path / "live.png", "--rows", "1", "--width", "64", "--bundle", "null"),
                    *("--input", simulator, "--output", output),
                    site=site,
                )
            code, _ = bridge.interrupt()
        assert replay.interrupt()[0] == 0
    assert code == 0
    assert len({frame.id for frame in frames}) == 25
    assert len({frame.session for frame in frames}) >= 2
    for frame in frames:
        assert frame.encoding is Encoding.RGB8
        assert (frame.pixels == picture(frame.number)).all()
        assert frame.provenance is not None
        assert frame.provenance.status is FrameStatus.FRESH
    assert sheet.returncode == 0, sheet.stderr
    assert (tmp_path / "live.png").exists()


def test_bridge_without_its_bundle_is_a_sentence(site: Path) -> None:
    done = run_cli("--bundle", "no-such-bundle", "--output", ANY_PORT, site=site)
    assert done.returncode == 2
    assert "no-such-bundle" in done.stderr
    assert "Traceback" not in done.stderr


def test_bundles_lists_what_is_shipped(site: Path) -> None:
    done = run_cli("bundles", site=site)
    assert done.returncode == 0
    shipped = sorted(
        path.parent.name for path in (Path(sim_bridge.__file__).parents[1] / "models/bundles/zoo").glob("*/card.json")
    )
    heading, *rows = done.stdout.splitlines()
    assert [line.split()[0] for line in rows] == shipped
    assert "translates" in heading
    for row in rows:
        assert ("yes" in row.split()) == bool({"sflow", "enhance"} & set(row.split()))


def test_bench_prints_json_alone(site: Path) -> None:
    done = run_cli("bench", "--bundle", "null", "--size", "64x32", "--frames", "20", "--json", site=site)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["frames_per_s"] > 0
    assert (result["frames"], result["width"], result["height"]) == (20, 64, 32)


def test_bench_prints_a_table(site: Path) -> None:
    done = run_cli("bench", "--bundle", "null", "--size", "64x32", "--frames", "20", "--rate", "200", site=site)
    assert done.returncode == 0, done.stderr
    assert "p99" in done.stdout
    assert "64x32" in done.stdout


def test_doctor_checks_and_says_so(site: Path) -> None:
    done = run_cli("doctor", "--bundle", "null", "--output", ANY_PORT, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())
    bad = run_cli("doctor", "--bundle", "no-such-bundle", site=site)
    assert bad.returncode == 1
    assert "FAIL" in bad.stdout
    assert "no-such-bundle" in bad.stdout


def test_folder_names_are_the_wires_kinds() -> None:
    """A recording's folders and the wire's kinds share their names wherever both have one."""
    kinds = {kind.value for kind in Kind}
    assert {folder.value for folder in Folder} - kinds == {"photo"}
