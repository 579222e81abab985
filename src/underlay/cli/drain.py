"""``underlay drain``: take a replica out of service without losing a stream, and put it back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from underlay.cli import _client, _says, _target
from underlay.cli._options import json_option, place_options
from underlay.cli._says import NOT_FOUND, Failure
from underlay.cli._target import Target, console_target, required

_LOOK_S = 0.2


@click.command()
@click.argument("replica")
@click.option("--undo", is_flag=True, help="Put it back into service.")
@click.option("--wait", is_flag=True, help="Return when it is drained (with --undo: when it is ready).")
@click.option("--key", help="The key.  [default: this machine's local key; env: UNDERLAY_KEY]")
@click.option("--url", help="A console's address.  [default: the one that runs here]")
@place_options
@json_option
def command(
    replica: str,
    undo: bool,
    wait: bool,
    key: str | None,
    url: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Take a replica out of service without losing a stream.

    It gets nothing new. What runs on it may finish (config: desk.drain_s); what is left then goes on elsewhere. A
    replica that was started here is then stopped, and stays so until --undo.

    \b
    Examples:
      underlay drain gemma-3-270m/0 --wait
      underlay drain gemma-3-270m/0 --undo
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    folder = _target.data_dir(data_dir, config, os.environ)
    to = required(console_target(url, key, folder), folder)
    row = _order(to, replica, drain=not undo)
    if wait:
        row = _wait(to, row, "ready" if undo else "drained", quiet=as_json)
    elif not undo and not as_json:
        _warn_if_last(to, row)
    if as_json:
        _says.result_json("drain", {"replica": row})
    else:
        _says.result(_told(row))


def _order(to: Target, replica: str, *, drain: bool) -> dict[str, Any]:
    assert to.console_url is not None
    body = {"replica": replica, "drain": drain}
    with _client.call(to.console_url, "/api/replicas/drain", key=to.key, body=body) as reply:
        _client.check(reply)
        row = reply.json()
    assert isinstance(row, dict)
    return row


def _rows(to: Target) -> list[dict[str, Any]]:
    assert to.console_url is not None
    rows = _client.get(to.console_url, "/api/replicas", key=to.key)
    return list(rows)


def _wait(to: Target, row: dict[str, Any], state: str, *, quiet: bool) -> dict[str, Any]:
    """Look again until the replica is in the state; say on stderr what it is doing meanwhile."""
    name, told = row["name"], ""
    while row["state"] != state:
        if not quiet and (line := _told(row)) != told:
            told = line
            _says.progress(told)
        time.sleep(_LOOK_S)
        found = [other for other in _rows(to) if other["name"] == name]
        if not found:
            raise Failure("not_found", f"{name} is not there any more", "underlay ps", exit_code=NOT_FOUND)
        row = found[0]
    return row


def _warn_if_last(to: Target, row: dict[str, Any]) -> None:
    others = [other for other in _rows(to) if other["model"] == row["model"] and other["state"] == "ready"]
    if not others:
        _says.progress(f"no other replica of {row['model']} is ready: its requests wait until one is")


def _told(row: dict[str, Any]) -> str:
    load = {0: "", 1: "; 1 stream is on it"}.get(row["load"], f"; {row['load']} streams are on it")
    return f"{row['name']} is {row['state']}{load if row['state'] == 'draining' else ''}"
