import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from sim_bridge.errors import UsageError
from sim_bridge.load_settings import load_settings
from sim_bridge.pixels.taxonomy import shipped_names
from sim_bridge.settings import (
    MAX_STYLE_SEED,
    BridgeSettings,
    flag_of,
    parse_size,
    variable_of,
)
from sim_bridge.tools.docs import settings_page, with_tables
from tests.sim_bridge.recording_helpers import ROOT, environment

EMPTY: dict[str, str] = {}


def test_later_layers_win(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("bundle: from-file\ndevice: cpu\nstyle_seed: 1\n")
    environ = {"SIM_BRIDGE_DEVICE": "cuda", "SIM_BRIDGE_STYLE_SEED": "2"}
    settings = load_settings({"style_seed": 3}, config=config, environ=environ)
    assert (settings.bundle, settings.device, settings.style_seed, settings.precision) == (
        "from-file",
        "cuda",
        3,
        "auto",
    )


def test_config_file_can_come_from_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("topics: front\n")
    assert load_settings(environ={"SIM_BRIDGE_CONFIG": str(config)}).topics == ("front",)


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    assert load_settings({"bundle": None, "size": None}, environ={"SIM_BRIDGE_SIZE": "64x32"}).size == (64, 32)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"topics": ("left", "right"), "size": (512, 256), "mode": "lockstep"},
        {"bundle": "null", "curve_keys": Path("/keys"), "insecure": True, "drain_timeout": 0.5},
        {"bundle": "no", "output": "ipc:///tmp/x:#y"},
        {"page": 8008, "page_host": "0.0.0.0", "page_token": "0123456789abcdef"},
    ],
)
def test_shown_config_reads_back_the_same(tmp_path: Path, flags: dict[str, object]) -> None:
    settings = load_settings(flags, environ=EMPTY)
    config = tmp_path / "bridge.yaml"
    config.write_text(settings.to_yaml())
    environ = {} if settings.page_token is None else {"SIM_BRIDGE_PAGE_TOKEN": settings.page_token}
    assert load_settings(config=config, environ=environ) == settings


def test_a_token_is_never_shown() -> None:
    settings = load_settings({"page": 8008, "page_token": "0123456789abcdef"}, environ=EMPTY)
    assert "0123456789abcdef" not in settings.to_yaml()
    assert "# page_token is set, and not shown" in settings.to_yaml()


def test_environment_values_are_text() -> None:
    environ = {
        "SIM_BRIDGE_TOPICS": "left, right",
        "SIM_BRIDGE_SIZE": "512X256",
        "SIM_BRIDGE_INSECURE": "true",
        "SIM_BRIDGE_DRAIN_TIMEOUT": "2",
        "SIM_BRIDGE_MODE": "Lockstep",
    }
    settings = load_settings(environ=environ)
    assert settings.topics == ("left", "right")
    assert settings.size == (512, 256)
    assert settings.insecure
    assert settings.drain_timeout == 2.0
    assert settings.mode == "lockstep"


def test_size_can_be_taken_back() -> None:
    assert load_settings({"size": "input"}, environ={"SIM_BRIDGE_SIZE": "64x32"}).size is None


def test_unquoted_null_in_yaml_is_the_null_bundle(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("bundle: null\n")
    assert load_settings(config=config, environ=EMPTY).bundle == "null"


def test_unknown_name_in_file_names_the_nearest(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("pair-windw: 3\n")
    with pytest.raises(
        UsageError, match=r"bridge\.yaml names an unknown setting 'pair-windw': did you mean 'pair_window'"
    ):
        load_settings(config=config, environ=EMPTY)


def test_slip_in_a_variable_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"SIM_BRIDGE_BUNDEL is unknown: did you mean SIM_BRIDGE_BUNDLE\?"):
        load_settings(environ={"SIM_BRIDGE_BUNDEL": "null"})


def test_variables_of_plugins_and_tests_are_left_alone() -> None:
    assert load_settings(environ={"SIM_BRIDGE_DATA": "/data", "SIM_BRIDGE_CARLA_HOST": "x"}) == BridgeSettings()


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("mode", "fast", "'realtime' or 'lockstep'"),
        ("device", "gpu", "'auto', 'cpu', 'cuda', 'cuda:N'"),
        ("pair_window", 0, "greater than or equal to 1"),
        ("style_seed", -1, "greater than or equal to 0"),
        ("style_seed", 2**20, "less than or equal to 1048575"),
        ("drain_timeout", float("nan"), "finite"),
        ("status_interval", 0, "greater than 0"),
        ("size", "512", "write it like 512x256"),
        ("size", "8x8", "use 16 to 16384"),
        ("size", (16, 20000), "use 16 to 16384"),
        ("topics", ("camera/rgb",), "no '/'"),
        ("topics", (), "at least 1 item"),
        ("topics", ("a", "a"), "once only"),
        ("topics", ("-x",), "led by neither"),
        ("input", "localhost:5555", "written tcp://HOST:PORT"),
        ("input", "tcp://127.0.0.1:*", "must be known"),
        ("output", "tcp://127.0.0.1:99999", "1 to 65535"),
        ("output", "tcp://127.0.0.1", "written tcp://HOST:PORT"),
        ("bundle", "", "at least 1 character"),
        ("page", 65536, "less than or equal to 65535"),
        ("page_token", "short", "at least 16 characters"),
        ("page_token", "with spaces in it", "letters, digits"),
        ("max_pixels", 255, "greater than or equal to 256"),
        ("max_pixels", 2**26 + 1, "less than or equal to 67108864"),
    ],
)
def test_bad_value_is_one_sentence_with_name_value_origin(name: str, value: object, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings({name: value}, environ=EMPTY)
    sentence = str(caught.value)
    assert repr(name) in sentence
    assert repr(value) in sentence
    assert flag_of(name) in sentence
    assert part in sentence
    assert "\n" not in sentence


def test_origin_of_a_bad_value_in_the_environment() -> None:
    with pytest.raises(UsageError, match="environment variable SIM_BRIDGE_PAIR_WINDOW"):
        load_settings(environ={"SIM_BRIDGE_PAIR_WINDOW": "many"})


def test_simulator_and_bridge_cannot_share_an_address() -> None:
    with pytest.raises(UsageError, match="each bind their own address"):
        load_settings({"input": "tcp://127.0.0.1:5556"}, environ=EMPTY)


@pytest.mark.parametrize("content", ["- a\n- b\n", "just text\n", "a: [1\n", "\x00", "!!python/object:os.system {}\n"])
def test_broken_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(content)
    with pytest.raises(UsageError, match=r"bridge\.yaml") as caught:
        load_settings(config=config, environ=EMPTY)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(config=tmp_path / "none.yaml", environ=EMPTY)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_settings(config=tmp_path / "empty.yaml", environ=EMPTY) == BridgeSettings()


def test_a_size_above_the_largest_frame_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"8192x8192 has 67108864 pixels, above max_pixels 9437184: .* SIM_BRIDGE_MAX_PIXELS"
    ):
        load_settings({"size": "8192x8192"}, environ=EMPTY)
    assert load_settings({"size": "8192x8192", "max_pixels": 8192 * 8192}, environ=EMPTY).size == (8192, 8192)
    assert load_settings({"size": "4096x2304"}, environ=EMPTY).size == (4096, 2304)


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        BridgeSettings().bundle = "other"  # type: ignore[misc]


def test_parse_size() -> None:
    assert parse_size(" 1280 x 720 ") == (1280, 720)
    with pytest.raises(UsageError, match="not WIDTHxHEIGHT"):
        parse_size("-5x20")


def test_page_is_what_the_model_says() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == settings_page(), (
        "run python -m sim_bridge.tools.docs and commit docs/settings.md"
    )


def test_wire_page_has_all_shipped_taxonomies() -> None:
    page = (ROOT / "docs/wire.md").read_text(encoding="utf-8")
    assert page == with_tables(page), "run python -m sim_bridge.tools.docs and commit docs/wire.md"
    for name in shipped_names():
        assert f"**`{name}`**: " in page
    assert "34 road line" in page and "255 unlabeled" in page


def test_taxonomies_are_files_of_every_layer(tmp_path: Path) -> None:
    assert load_settings(environ={"SIM_BRIDGE_TAXONOMIES": "a.yaml, b.yaml"}).taxonomies == (
        Path("a.yaml"),
        Path("b.yaml"),
    )
    assert load_settings({"taxonomies": (Path("c.yaml"),)}, environ=EMPTY).taxonomies == (Path("c.yaml"),)
    config = tmp_path / "bridge.yaml"
    config.write_text("taxonomies: [x.yaml]\n")
    assert load_settings(config=config, environ=EMPTY).taxonomies == (Path("x.yaml"),)


def test_page_names_every_setting() -> None:
    page = settings_page()
    for name in BridgeSettings.model_fields:
        assert f"`{name}`" in page
        assert f"`{flag_of(name)}`" in page
        assert f"`{variable_of(name)}`" in page


def test_yaml_is_plain() -> None:
    assert yaml.safe_load(BridgeSettings().to_yaml())["topics"] == ["camera"]


def test_core_imports_neither_torch_nor_opencv() -> None:
    modules = "settings, recordings.read, sources, process.logs, cli"
    imports = f"import sys, {', '.join(f'sim_bridge.{name}' for name in modules.split(', '))}"
    check = f"{imports}; sys.exit(bool({{'torch', 'cv2'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", check], env=environment(), timeout=60, check=False)
    assert done.returncode == 0


def test_style_seeds_end_where_the_network_repeats_them() -> None:
    style = pytest.importorskip("models.style")
    assert style.SEEDS - 1 == MAX_STYLE_SEED
