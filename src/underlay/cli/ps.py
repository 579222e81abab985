"""``underlay ps``: the running platform and its replicas."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from underlay.cli import _client, _says, _target
from underlay.cli._options import json_option, place_options
from underlay.cli._target import console_target, required


@click.command()
@click.option("--key", help="The key.  [default: this machine's local key; env: UNDERLAY_KEY]")
@click.option("--url", help="A console's address.  [default: the one that runs here]")
@place_options
@json_option
def command(key: str | None, url: str | None, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Show the running platform and its replicas.

    \b
    Examples:
      underlay ps
      underlay ps --json
      underlay ps --url http://console.example:8081 --key ul_…
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    folder = _target.data_dir(data_dir, config, os.environ)
    to = required(console_target(url, key, folder), folder)
    assert to.console_url is not None
    platform = _client.get(to.console_url, "/api/platform", key=to.key)
    replicas = _client.get(to.console_url, "/api/replicas", key=to.key)
    if as_json:
        _says.result_json("ps", {"platform": platform, "replicas": replicas})
        return
    _says.result(_headline(platform))
    _says.result()
    _says.result(_table(replicas))


def _headline(platform: dict[str, Any]) -> str:
    state = "ready" if platform["ready"] else "not ready"
    return (
        f"{_says.bold('Underlay ' + platform['version'])}  {state}, process {platform['pid']},"
        f" up {_says.span(platform['uptime_s'])}\n"
        f"{platform['public_url']}  console {platform['console_url']}\n"
        f"{platform['open_requests']} requests open, {platform['waiting']} waiting"
    )


def _table(replicas: list[dict[str, Any]]) -> str:
    heads = [
        "replica",
        "model",
        "state",
        "engine",
        "address",
        "pid",
        "load",
        "served",
        "restarts",
        "MB",
        "up",
        "why",
    ]
    rows = [
        [
            row["name"],
            row["model"],
            row["state"],
            row["engine"],
            row["address"],
            "" if row["pid"] is None else str(row["pid"]),
            f"{row['load']}/{row['slots']}",
            str(row["served"]),
            str(row["restarts"]),
            "" if row["resident_mb"] is None else f"{row['resident_mb']:.0f}",
            _says.span(row["uptime_s"]),
            row["why"],
        ]
        for row in replicas
    ]
    return _says.table(heads, rows)
