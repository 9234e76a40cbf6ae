"""Options that several commands have, ours and those of plugins, and the settings that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sim_bridge.process.logs import configure_logging
from sim_bridge.settings import BridgeSettings, describe, flag_of, load_settings, metavar_of

RGB_HELP: Final = "Foreign folder: which files are the RGB images, relative to it and quoted, like 'rgb/*.png'."
SEMANTIC_HELP: Final = "Foreign folder: which files are the label images, raw ids or palette colours."
LABELS_HELP: Final = "Taxonomy of the label images, like carla-0.9.14; a recording names its own."
CAMERA_HELP: Final = "Of a recording, the only camera to take; of a foreign folder, the name to give it."


def setting_option(name: str, *flags: str) -> Any:
    """An option for a setting; its help is the setting's own description. A value is checked with all others, later."""
    default = BridgeSettings.model_fields[name].default
    shown = {"topics": "camera", "size": "input"}.get(name, default)
    suffix = "" if shown is None or isinstance(shown, bool) else f" [default: {shown}]"
    text = describe(name) + suffix
    return typer.Option(*(flags or (flag_of(name),)), metavar=metavar_of(name), help=text, show_default=False)


TopicOption = Annotated[list[str] | None, setting_option("topics")]
InputOption = Annotated[str | None, setting_option("input")]
OutputOption = Annotated[str | None, setting_option("output")]
BundleOption = Annotated[str | None, setting_option("bundle")]
DeviceOption = Annotated[str | None, setting_option("device")]
PrecisionOption = Annotated[str | None, setting_option("precision")]
SizeOption = Annotated[str | None, setting_option("size")]
SeedOption = Annotated[int | None, setting_option("style_seed")]
CurveKeysOption = Annotated[Path | None, setting_option("curve_keys")]
InsecureOption = Annotated[bool | None, setting_option("insecure", "--insecure/--no-insecure")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML file with settings.", show_default=False)
]
RgbOption = Annotated[str | None, typer.Option(metavar="GLOB", help=RGB_HELP, show_default=False)]
SemanticOption = Annotated[str | None, typer.Option(metavar="GLOB", help=SEMANTIC_HELP, show_default=False)]
LabelsOption = Annotated[str | None, typer.Option(metavar="NAME", help=LABELS_HELP, show_default=False)]
CameraOption = Annotated[str | None, typer.Option(metavar="NAME", help=CAMERA_HELP, show_default=False)]


def settings_of(context: typer.Context) -> BridgeSettings:
    """The settings from the flags given before and after the subcommand, the latter first; also sets the log level."""
    flags: dict[str, object] = {}
    config: Path | None = None
    for level in (context.parent, context):
        params = {} if level is None else level.params
        given = {**params, "topics": tuple(params.get("topic") or ()) or None}
        flags |= {name: given[name] for name in BridgeSettings.model_fields if given.get(name) is not None}
        config = params.get("config") or config
    settings = load_settings(flags, config=config)
    configure_logging(settings.log_level)
    return settings
