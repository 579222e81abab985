"""``underlay up``: the whole platform in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from underlay.cli import _ports, _says
from underlay.cli._options import json_option, place_options, setting_option
from underlay.cli._says import Failure
from underlay.live import locate

if TYPE_CHECKING:
    from underlay.domain.views import PlatformRow
    from underlay.live.settings import Settings
    from underlay.live.settings_file import Loaded

QUESTION = "What is the capital of France?"
GEMMA_TERMS = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms"
)


@click.command(no_args_is_help=False)
@setting_option("--host", "public.host", "127.0.0.1", "Address of the generation APIs.")
@setting_option(
    "--port",
    "public.port",
    "8080",
    "Port of the generation APIs; 0 takes a free one.",
    type=click.IntRange(0, 65535),
)
@setting_option(
    "--console-port",
    "console.port",
    "8081",
    "Port of the console; 0 takes a free one.",
    type=click.IntRange(0, 65535),
)
@setting_option(
    "--model",
    "models.0.engine.path",
    "the bundled Gemma 3 270M",
    "A GGUF file to serve; callers name it by its file name.",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@setting_option("--replicas", "models.0.engine.replicas", "2", "How many engine processes.", type=click.IntRange(1))
@place_options
@json_option
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="Stop when the caller is gone.")
def command(
    host: str | None,
    port: int | None,
    console_port: int | None,
    model: Path | None,
    replicas: int | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
    until_stdin_closes: bool,
) -> int:
    """Start a platform on this machine and keep it running.

    Starts the engines, the gateway that speaks the OpenAI, Anthropic and Gemini APIs, and the console. Prints
    where they are and a key as soon as the first replica is ready; Ctrl-C stops everything.

    \b
    Examples:
      underlay up
      underlay up --model ~/models/qwen3-8b-q4_k_m.gguf --replicas 1
      underlay up --port 0 --console-port 0 --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    loaded = _load(
        config,
        {
            "public.host": host,
            "public.port": port,
            "console.port": console_port,
            "models.0.engine.path": model,
            "models.0.engine.replicas": replicas,
            "data_dir": data_dir,
        },
    )
    for warning in loaded.warnings:
        _says.progress(f"warning: {warning}")
    _refuse_busy_ports(loaded.settings)
    if until_stdin_closes:
        threading.Thread(target=_stop_when_stdin_closes, name="underlay-caller", daemon=True).start()
    try:
        with locate.hold(loaded.settings.data_dir):
            return _run(loaded.settings, as_json=as_json)
    except locate.AlreadyRunning as error:
        raise Failure(
            "already_running", str(error), "underlay ps, or another --data-dir with other ports"
        ) from None


def _run(settings: Settings, *, as_json: bool) -> int:
    from underlay.console.app import create_app
    from underlay.live import platform

    announced: list[PlatformRow] = []

    def announce(row: PlatformRow, secret: str | None) -> None:
        announced.append(row)
        _announce(row, secret, settings, as_json=as_json)

    try:
        code = platform.run(settings, announce=announce, console=create_app, progress=_says.progress)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _refuse_busy_ports(settings)
        raise Failure("port_busy", f"a port is in use: {error}", "underlay up --port 0 --console-port 0") from None
    if not announced:
        raise Failure("not_started", "stopped before any replica was ready", "underlay doctor")
    return code


def _load(config: Path | None, overrides: dict[str, Any]) -> Loaded:
    from underlay.live.settings_file import load

    loaded = load(config, os.environ, overrides)
    path = overrides["models.0.engine.path"]
    if path is not None and loaded.origins["models.0.name"] == "default":
        # Otherwise callers would be told that they talk to the bundled model.
        loaded = load(config, os.environ, {**overrides, "models.0.name": model_name(path)})
    return loaded


def model_name(path: Path) -> str:
    """What callers call the model in a file: its file name, in the letters that model names use."""
    return re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-.") or "model"


def _refuse_busy_ports(settings: Settings) -> None:
    for name, flag, listener in (
        ("public", "--port", settings.public),
        ("console", "--console-port", settings.console),
    ):
        if _ports.busy(listener.host, listener.port):
            by = _ports.holder(listener.port)
            raise Failure(
                "port_busy",
                f"port {listener.port} ({name}.port) is in use" + (f" by {by}" if by else ""),
                f"underlay up {flag} 0, which takes a free one",
            )


def _stop_when_stdin_closes() -> None:
    # Not through sys.stdin: its lock would be held by this thread when the interpreter ends.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _announce(row: PlatformRow, secret: str | None, settings: Settings, *, as_json: bool) -> None:
    """Say where the platform is; called once, as soon as it can answer."""
    if as_json:
        _says.result_json("up", _fields(row, secret))
    else:
        _says.result(_welcome(row, secret, bundled=settings.models[0].engine.path is None))
    sys.stdout.flush()


def _fields(row: PlatformRow, secret: str | None) -> dict[str, Any]:
    return {
        "public_url": row.public_url,
        "console_url": row.console_url,
        "key": secret,
        "models": list(row.models),
        "pid": row.pid,
        "version": row.version,
    }


def _welcome(row: PlatformRow, secret: str | None, *, bundled: bool) -> str:
    key = secret or "YOUR_KEY"
    lines = [
        "",
        _says.bold("Underlay is running."),
        "",
        f"  API      {row.public_url}/v1   (OpenAI; Anthropic and Gemini at the same address)",
        f"  Console  {row.console_url}/" + (f"#key={key}   (this link logs in)" if secret else ""),
        f"  Key      {key}",
        f"  Models   {', '.join(row.models)}",
        "",
        "Try it:",
        "",
        *(f"  {line}" for line in _curl(row.public_url, key, row.models[0]).splitlines()),
        "",
        f"  underlay ask {shlex.quote(QUESTION)}",
        "",
    ]
    if bundled:
        lines += [
            "The bundled model is Gemma 3 270M, a small base model: quick to try, often wrong. For better answers:",
            "  underlay up --model PATH_TO_A.gguf",
            GEMMA_TERMS,
            "",
        ]
    return "\n".join([*lines, "Ctrl-C stops it."])


def _curl(url: str, key: str, model: str) -> str:
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'
    return (
        f"curl {url}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}'"
    )
