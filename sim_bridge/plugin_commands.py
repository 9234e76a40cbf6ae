"""Subcommands that other packages bring as entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Final

import typer
from typer.core import TyperGroup

from sim_bridge.errors import UsageError
from sim_bridge.sources import load_entry_point

COMMAND_GROUP: Final = "sim_bridge.commands"


class PluginGroup(TyperGroup):
    """Our own commands, and those that other packages bring as entry points; a plugin is imported when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, ours first."""
        own = list(super().list_commands(ctx))
        return own + sorted({entry.name for entry in entry_points(group=COMMAND_GROUP)} - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for entry in entry_points(group=COMMAND_GROUP, name=cmd_name):
            command = typer.main.get_command(_plugin_app(entry))
            command.name = cmd_name
            return command
        return None


def _plugin_app(entry: Any) -> typer.Typer:
    """What a plugin's entry point names; a command that says what is wrong where it cannot be loaded."""
    try:
        loaded = load_entry_point(entry)
        if isinstance(loaded, typer.Typer):
            return loaded
        problem = UsageError(f"{entry.name!r} ({entry.value}) is no typer.Typer: correct the package that brings it")
    except UsageError as error:
        problem = error
    broken = typer.Typer(add_completion=False)

    def refuse(context: typer.Context) -> None:
        raise problem

    everything = {"allow_extra_args": True, "ignore_unknown_options": True}
    broken.command(help="(cannot be loaded)", context_settings=everything)(refuse)
    return broken
