"""Recipes made from the tiny one."""

from collections.abc import Mapping
from pathlib import Path

import yaml


def changed_recipe(recipe: Path, changes: Mapping[str, object]) -> Path:
    """A copy with other keys, beside it, and without the former keys of the discriminator, which bar the section."""
    raw = {k: v for k, v in yaml.safe_load(recipe.read_text()).items() if not k.startswith("discriminator")}
    path = recipe.with_name("changed.yaml")
    path.write_text(yaml.safe_dump({**raw, **changes}))
    return path
