"""Options that several verbs share, and the kinds of values they take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Verb = TypeVar("_Verb", bound=Callable[..., Any])

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def span_s(value: str) -> float:
    """Seconds from a length of time written with a unit: ``90s``, ``15m``, ``24h``, ``30d``, ``2w``."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])", value.strip())
    if match is None:
        raise click.BadParameter(f"'{value}' is not a length of time such as 90s, 15m, 24h, 30d")
    return float(match[1]) * _UNIT_S[match[2]]


def json_option(verb: _Verb) -> _Verb:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(verb)


def place_options(verb: _Verb) -> _Verb:
    """Add ``--config`` and ``--data-dir``."""
    verb = click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="Where keys, ledger and journal lie.  [default: ~/.local/share/underlay; env: UNDERLAY_DATA_DIR;"
        " config: data_dir]",
    )(verb)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="The settings file.  [default: ./underlay.yaml, then ~/.config/underlay/underlay.yaml;"
        " env: UNDERLAY_CONFIG]",
    )(verb)


def setting_option(flag: str, setting: str, default: str, text: str, **more: Any) -> Callable[[_Verb], _Verb]:
    """Add an option that overrides a setting; its help names default, variable and config key."""
    variable = "UNDERLAY_" + setting.upper().replace(".", "__")
    return click.option(flag, help=f"{text}  [default: {default}; env: {variable}; config: {setting}]", **more)
