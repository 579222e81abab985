"""``underlay config``: the settings, checked, shown and described."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from underlay.cli import _says
from underlay.cli._options import json_option

if TYPE_CHECKING:
    from underlay.live.settings_file import Loaded


@click.group()
def command() -> None:
    """Check, show and describe the settings.

    \b
    Examples:
      underlay config check underlay.yaml
      underlay config show --origin
      underlay config schema > underlay.schema.json
    """  # noqa: D301  # click's mark for text that is not to be wrapped


@command.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Check a settings file and the environment; every finding at once.

    Without FILE: the one that 'underlay up' would read.

    \b
    Examples:
      underlay config check
      underlay config check deploy/underlay.yaml --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    loaded = _load(file, as_json=as_json)
    path = None if loaded.path is None else str(loaded.path)
    if as_json:
        _says.result_json("config check", {"valid": True, "path": path, "warnings": loaded.warnings})
        return
    for warning in loaded.warnings:
        _says.progress(f"warning: {warning}")
    _says.result(f"{path or 'no settings file: the defaults'}: valid")


@command.command()
@click.option("--config", type=click.Path(path_type=Path), help="The settings file.  [env: UNDERLAY_CONFIG]")
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@json_option
def show(config: Path | None, origin: bool, as_json: bool) -> None:
    """Show the settings in force: flags, then environment, then file, then defaults.

    \b
    Examples:
      underlay config show
      underlay config show --origin
      underlay config show --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    loaded = _load(config, as_json=as_json)
    values = json.loads(loaded.settings.model_dump_json())
    if as_json:
        _says.result_json("config show", {"settings": values, "origins": loaded.origins})
    elif origin:
        settings = {setting: json.dumps(_at(values, setting), ensure_ascii=False) for setting in loaded.origins}
        rows = [[setting, value, loaded.origins[setting]] for setting, value in settings.items()]
        _says.result(_says.table(["setting", "value", "origin"], rows))
    else:
        import yaml

        _says.result(yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip("\n"))


@command.command()
@json_option
def schema(as_json: bool) -> None:  # noqa: ARG001  # it is JSON in any case
    """Print the JSON schema of the settings file, for editors.

    \b
    Examples:
      underlay config schema > underlay.schema.json
      # then, as the first line of underlay.yaml:
      # yaml-language-server: $schema=underlay.schema.json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    from underlay.live import settings_file

    _says.result(json.dumps(settings_file.schema(), indent=2))


def _load(path: Path | None, *, as_json: bool) -> Loaded:
    from underlay.live.settings_file import SettingsError, load

    try:
        return load(path, os.environ, {})
    except SettingsError as error:
        if not as_json:
            _says.progress(error.render())
        else:
            findings = [
                {"where": found.where, "setting": found.setting, "message": found.message}
                for found in error.findings
            ]
            _says.result_json("config check", {"valid": False, "findings": findings})
        count = len(error.findings)
        message = f"{count} finding{'' if count == 1 else 's'} in the settings"
        raise _says.Failure(
            "settings_invalid", message, "underlay config schema", exit_code=_says.INVALID
        ) from None


def _at(values: Any, setting: str) -> Any:
    for step in setting.split("."):
        values = values[int(step)] if isinstance(values, list) else values[step]
    return values
