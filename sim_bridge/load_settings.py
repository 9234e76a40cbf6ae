"""Builds the settings: defaults < YAML file < environment (``SIM_BRIDGE_...``) < flags."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from sim_bridge.errors import UsageError
from sim_bridge.mistakes import Mistake, first_mistake
from sim_bridge.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, BridgeSettings, accepted, flag_of, variable_of


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> BridgeSettings:
    """Builds the settings from defaults < YAML file < environment < flags.

    Args:
        flags: Values by setting name; None counts as not given.
        config: YAML file; by default the one named in ``SIM_BRIDGE_CONFIG``, if any.
        environ: Environment variables; by default those of this process.

    Raises:
        UsageError: A name is unknown (the nearest known one is named) or a value out of bounds (with its origin).
    """
    environ = os.environ if environ is None else environ
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    layers = [
        ("the file {config}", {} if config is None else _read_yaml(config)),
        ("the environment variable {variable}", _read_environment(environ)),
        ("the flag {flag}", {name: value for name, value in (flags or {}).items() if value is not None}),
    ]
    for origin, layer in layers:
        for name, value in layer.items():
            if name not in BridgeSettings.model_fields:
                where = origin.format(config=config, variable=variable_of(name), flag="--" + name.replace("_", "-"))
                raise UsageError(f"{where} names an unknown setting {name!r}{_nearest(name)}")
            values[name] = value
            origins[name] = origin.format(config=config, variable=variable_of(name), flag=flag_of(name))
    try:
        return BridgeSettings.model_validate(values)
    except ValidationError as error:
        raise UsageError(_sentence(first_mistake(error), origins)) from error


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the settings file {path} cannot be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise UsageError(
            f"the settings file {path} is not YAML ({detail}): --show-config prints one that is"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"the settings file {path} holds a {type(content).__name__} where 'name: value' lines are expected: "
            "--show-config prints one that works"
        )
    return {str(name): value for name, value in content.items()}


def _read_environment(environ: Mapping[str, str]) -> dict[str, object]:
    known = {variable_of(name): name for name in BridgeSettings.model_fields}
    for variable in environ:
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known and variable != CONFIG_VARIABLE:
            # Plugins and tests have variables of their own under the prefix; only what looks like a slip is refused.
            near = difflib.get_close_matches(variable, known, n=1, cutoff=0.88)
            if near:
                raise UsageError(f"the environment variable {variable} is unknown: did you mean {near[0]}?")
    return {name: environ[variable] for variable, name in known.items() if variable in environ}


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), BridgeSettings.model_fields, n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else ": --show-config prints all that are known"


def _sentence(mistake: Mistake, origins: Mapping[str, str]) -> str:
    if not mistake.place:
        return mistake.inside
    name = mistake.place.partition(".")[0]
    sentence = mistake.inside
    if mistake.kind == "string_pattern_mismatch":
        sentence = "it should be " + accepted(BridgeSettings.model_fields[name]).replace("`", "'")
    return f"the setting {name!r} is {mistake.value!r} ({origins.get(name, 'default')}): {sentence}"
