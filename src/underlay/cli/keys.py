"""``underlay keys``: who may ask. Works on the store, whether or not a platform runs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from underlay.cli import _budgets, _says, _target
from underlay.cli._options import json_option, place_options, span_s

if TYPE_CHECKING:
    from underlay.domain.keys import Budget, Key, Limits
    from underlay.live.spent import Use
    from underlay.live.store import Store


@click.group()
def command() -> None:
    """Create, list, revoke and rotate keys.

    A running platform learns of every change within a second.

    \b
    Examples:
      underlay keys create --tenant research --name notebook
      underlay keys list
      underlay keys rotate notebook --overlap 24h
    """  # noqa: D301  # click's mark for text that is not to be wrapped


def _store(config: Path | None, data_dir: Path | None) -> tuple[Store, Path]:
    from underlay.live.store import Store

    folder = _target.data_dir(data_dir, config, os.environ)
    return Store(folder), folder


@command.command()
@click.option("--tenant", required=True, help="Who pays.")
@click.option("--name", default="", help="What the key is for.")
@click.option("--model", "models", multiple=True, help="A model it may use; may be repeated.  [default: all]")
@click.option("--requests-per-minute", type=click.IntRange(1), help="[default: config limits.requests_per_minute]")
@click.option("--tokens-per-minute", type=click.IntRange(1), help="[default: config limits.tokens_per_minute]")
@click.option("--concurrent", type=click.IntRange(1), help="Open requests.  [default: config limits.concurrent]")
@click.option("--user", default="", help="Whose key it is, for what accounts say of users.")
@click.option(
    "--band", default="", help="Highest class of urgency it may ask for.  [default: config accounts[].band]"
)
@click.option(
    "--budget",
    "budgets",
    type=_budgets.budget,
    multiple=True,
    metavar="AMOUNT/PERIOD",
    help="What it may spend, such as 5usd/month, 200000tokens/day or 500kJ/week (or total); may be repeated.",
)
@click.option("--expires-in", type=span_s, metavar="SPAN", help="Such as 12h or 30d.  [default: never]")
@place_options
@json_option
def create(
    tenant: str,
    name: str,
    models: tuple[str, ...],
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrent: int | None,
    user: str,
    band: str,
    budgets: tuple[Budget, ...],
    expires_in: float | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Create a key. Its secret is shown once, alone on stdout.

    \b
    Examples:
      underlay keys create --tenant research --name notebook
      KEY=$(underlay keys create --tenant ci --expires-in 12h --requests-per-minute 60)
      underlay keys create --tenant acme --user ann --budget 5usd/month --budget 200000tokens/day
      underlay keys create --tenant acme --budget 1kWh/month
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    from underlay.domain.keys import Limits
    from underlay.live import keyring

    if band:
        _check_band(band, config)
    at_s = time.time()
    store, _ = _store(config, data_dir)
    with store:
        minted = keyring.create(
            store,
            tenant=tenant,
            name=name,
            models=models,
            limits=Limits(requests_per_minute, tokens_per_minute, concurrent),
            budgets=budgets,
            user=user,
            band=band,
            at_s=at_s,
            expires_s=None if expires_in is None else at_s + expires_in,
        )
        use = _budgets.use_of(store, at_s)
    _show_minted("keys create", minted.key, minted.secret, at_s, use, as_json=as_json)


def _check_band(band: str, config: Path | None) -> None:
    from underlay.live.accounts import unknown_band
    from underlay.live.settings_file import load

    if wrong := unknown_band(band, load(config, os.environ, {}).settings):
        raise click.BadParameter(wrong, param_hint="--band")


@command.command("list")
@click.option("--all", "ended_too", is_flag=True, help="Also those that have expired or were revoked.")
@place_options
@json_option
def list_keys(ended_too: bool, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """List keys, never their secrets.

    \b
    Examples:
      underlay keys list
      underlay keys list --all --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    from underlay.live import keyring

    at_s = time.time()
    store, _ = _store(config, data_dir)
    with store:
        known, use = store.keys(), _budgets.use_of(store, at_s)
    keys = [key for key in known if ended_too or keyring.state(key, at_s) == "live"]
    if as_json:
        _says.result_json("keys list", {"keys": [_fields(key, at_s, use) for key in keys]})
        return
    if not keys:
        _says.progress("no keys; 'underlay keys create --tenant NAME' makes one")
        return
    heads = ["id", "begins", "tenant", "user", "name", "models", "limits", "spent", "band", "state", "created"]
    _says.result(_says.table([*heads, "expires"], [_row(key, at_s, use) for key in keys]))


@command.command()
@click.argument("key")
@place_options
@json_option
def revoke(key: str, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """End a key now, given its id, its name, or its first eight characters.

    \b
    Examples:
      underlay keys revoke notebook
      underlay keys revoke key_2bXk90Lm4TfA --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    from underlay.live import keyring

    at_s = time.time()
    store, _ = _store(config, data_dir)
    with store:
        ended = keyring.revoke(store, keyring.find(store, key, at_s).id, at_s)
        use = _budgets.use_of(store, at_s)
    if as_json:
        _says.result_json("keys revoke", {"key": _fields(ended, at_s, use)})
    else:
        _says.result(f"{ended.id} ({ended.name or ended.tenant}) is revoked")


@command.command()
@click.argument("key")
@click.option(
    "--overlap", type=span_s, default="24h", metavar="SPAN", help="How long the old one goes on.  [default: 24h]"
)
@place_options
@json_option
def rotate(key: str, overlap: float, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Replace a key by a like one; the old one goes on for a while.

    \b
    Examples:
      underlay keys rotate notebook
      underlay keys rotate key_2bXk90Lm4TfA --overlap 1h
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    from underlay.live import keyring

    at_s = time.time()
    store, folder = _store(config, data_dir)
    with store:
        old = keyring.find(store, key, at_s)
        kept = keyring.read_local(folder)
        minted = keyring.rotate(store, old.id, overlap, at_s)
        if kept is not None and keyring.digest(kept) == old.digest:
            keyring.keep_local(folder, minted.secret)
        use = _budgets.use_of(store, at_s)
    _says.progress(f"{old.id} goes on for {_says.span(overlap)}")
    _show_minted("keys rotate", minted.key, minted.secret, at_s, use, as_json=as_json)


#: What was spent by anybody, and for each key the first of its line.
_Use: TypeAlias = "tuple[Use, dict[str, str]]"


def _show_minted(verb: str, key: Key, secret: str, at_s: float, use: _Use, *, as_json: bool) -> None:
    if as_json:
        _says.result_json(verb, {"key": _fields(key, at_s, use), "secret": secret})
        return
    _says.progress(f"{key.id} for tenant {key.tenant}; this is the only time that its secret is shown:")
    _says.result(secret)


def _fields(key: Key, at_s: float, use: _Use) -> dict[str, Any]:
    import msgspec

    from underlay.live import keyring

    fields = dict(msgspec.to_builtins(key))
    del fields["digest"]
    return {**fields, "budgets": _budgets.fields(key, use, at_s), "state": keyring.state(key, at_s)}


def _row(key: Key, at_s: float, use: _Use) -> list[str]:
    from underlay.live import keyring

    return [
        key.id,
        f"{key.prefix}…",
        key.tenant,
        key.user,
        key.name,
        ", ".join(key.models) or "all",
        _limits(key.limits),
        _budgets.cell(key, use, at_s),
        key.band,
        keyring.state(key, at_s),
        _says.moment(key.created_s),
        "" if key.expires_s is None else _says.moment(key.expires_s),
    ]


def _limits(limits: Limits) -> str:
    parts = (
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
        (limits.concurrent, "open"),
    )
    return ", ".join(f"{limit} {unit}" for limit, unit in parts if limit is not None)
