"""Options that several commands have, ours and those of plugins, and the settings that they make."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from sim_bridge.errors import UsageError
from sim_bridge.load_settings import load_settings
from sim_bridge.process.logs import configure_logging
from sim_bridge.settings import BridgeSettings, extra, flag_of

TAKES_ANY_FLAG: Final = "doctor"
"""The command that checks any settings, also those that it has no flags for itself."""
RGB_HELP: Final = "Foreign folder: which files are the RGB images, relative to it and quoted, like 'rgb/*.png'."
SEMANTIC_HELP: Final = "Foreign folder: which files are the label images, raw ids or palette colours."
LABELS_HELP: Final = (
    "Taxonomy of the label images: a name like carla-0.9.14, or your own YAML. A recording names its own."
)
LABELS_AS_HELP: Final = (
    "How to read label images where two readings fit: ids, palette-colours, palette-indices or carla-raw."
)
STRICT_HELP: Final = "End with exit code 1 where something may be wrong, as labels of one class alone."
PAIR_HELP: Final = (
    "Foreign folder: how RGB and label images are joined: by what their folders and names say (the default), by each "
    "name's last number as a time stamp, or by sorted order."
)
CAMERA_HELP: Final = "Of a recording, the only camera to take; of a foreign folder, the name to give it."


def metavar_of(name: str) -> str | None:
    """The placeholder of a setting's value in ``--help``; None for a switch."""
    info = BridgeSettings.model_fields[name]
    if typing.get_origin(info.annotation) is Literal:
        return "|".join(str(value) for value in typing.get_args(info.annotation))
    if info.annotation is bool:
        return None
    default = "N" if info.annotation is int else "SECONDS" if info.annotation is float else "NAME"
    return str(extra(info).get("metavar", default))


def describe(name: str) -> str:
    """The help text of a setting, as plain text."""
    return str(BridgeSettings.model_fields[name].description).replace("`", "")


def setting_option(name: str, *flags: str) -> Any:
    """An option for a setting; its help is the setting's own description. A value is checked with all others, later."""
    default = BridgeSettings.model_fields[name].default
    shown = {"topics": "camera", "size": "input", "taxonomies": None}.get(name, default)
    suffix = "" if shown is None or isinstance(shown, bool) else f" [default: {shown}]"
    text = describe(name) + suffix
    return typer.Option(*(flags or (flag_of(name),)), metavar=metavar_of(name), help=text, show_default=False)


TopicOption = Annotated[list[str] | None, setting_option("topics")]
TaxonomyOption = Annotated[list[Path] | None, setting_option("taxonomies")]
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
LabelsOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help=LABELS_HELP, show_default=False)]
LabelsAsOption = Annotated[str | None, typer.Option(metavar="READING", help=LABELS_AS_HELP, show_default=False)]
StrictOption = Annotated[bool, typer.Option("--strict", help=STRICT_HELP)]
PairOption = Annotated[
    Literal["identity", "stamp", "sorted"] | None, typer.Option("--pair", help=PAIR_HELP, show_default=False)
]
CameraOption = Annotated[str | None, typer.Option(metavar="NAME", help=CAMERA_HELP, show_default=False)]


def settings_of(context: typer.Context) -> BridgeSettings:
    """The settings from the flags given before and after the subcommand, the latter first; also sets the log level."""
    flags: dict[str, object] = {}
    config: Path | None = None
    for level in (context.parent, context):
        params = {} if level is None else level.params
        lists = {name: params.get(flag) for name, flag in (("topics", "topic"), ("taxonomies", "taxonomy"))}
        given = {**params, **{name: tuple(values) if values else None for name, values in lists.items()}}
        given["style"] = params.get("style") or None
        flags |= {name: given[name] for name in BridgeSettings.model_fields if given.get(name) is not None}
        config = params.get("config") or config
    settings = load_settings(flags, config=config)
    configure_logging(settings.log_level)
    return settings


def is_strict(context: typer.Context) -> bool:
    """Whether ``--strict`` was given, before or after the subcommand."""
    return any(level is not None and level.params.get("strict") for level in (context.parent, context))


def refuse_unused_flags(context: typer.Context, name: str) -> None:
    """Flags before a subcommand count for it where it has them, too; any other would be dropped without a word.

    Raises UsageError when a flag says nothing to the subcommand.
    """
    if name == TAKES_ANY_FLAG:
        return
    group: Any = context.command
    known = {parameter.name for parameter in group.get_command(context, name).params}
    ours = name in group.commands  # plugins read their own flags only
    if ours and "config" in known:
        known.add("log_level")
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if given is None or given.name != "COMMANDLINE" or (ours and parameter.name in known):
            continue
        flag = parameter.opts[0]
        place = f"give it after {name!r}" if parameter.name in known else "leave it out"
        raise UsageError(f"the flag {flag} before the command {name!r} says nothing to it: {place}")
