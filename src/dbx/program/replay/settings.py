"""Recorded steps with other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import config_names, plain
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step


def with_settings(registry: Registry, config: Mapping[str, Mapping[str, Any]], *, own: bool) -> dict[str, Step]:
    """Name -> step with some settings replaced; their state is as it was.

    Raises
    ------
    ValueError
        The cells are not the ones the steps were fitted on, or an operator has no such setting.
    KeyError
        There is no such step.
    """
    if config and not own:
        msg = "New settings (config=) are for the cells a step was fitted on: leave `reference` out."
        raise ValueError(msg)
    changed = {}
    for name, settings in config.items():
        step = registry[name]
        known = config_names(step.operator_class) if step.operator in CATALOGUE else []
        unknown = [setting for setting in settings if setting not in known]
        if unknown:
            there = ", ".join(known)
            msg = f"Step {name!r} has no setting {unknown[0]!r}; it has: {there}."
            raise ValueError(msg)
        new = {setting: plain(value) for setting, value in settings.items()}
        changed[name] = replace(step, config={**step.config, **new})
    return changed
