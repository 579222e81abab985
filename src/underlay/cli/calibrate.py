"""``underlay calibrate``: how long are the steps of an engine, and what do they draw? A profile, measured here."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from underlay.cli import _calibrated, _says
from underlay.cli._options import json_option, place_options
from underlay.cli._says import NOT_FOUND, UNREACHABLE, USAGE, Failure

if TYPE_CHECKING:
    from underlay.live.calibration import Calibration, Measured, Server
    from underlay.live.settings import MeterSettings, ModelSettings, Settings
    from underlay.physics.profiles import EngineRules

SECONDS, QUICK_SECONDS = 240.0, 60.0
_SEED = 1


@click.command()
@click.option("--model", help="A model of the settings, a GGUF file, or with --url a name.  [default: the first]")
@click.option("--url", help="Measure the server at this address instead of starting an engine.")
@click.option(
    "--slots", type=click.IntRange(1, 512), help="Requests it works on at a time.  [default: the settings']"
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: what a replica gets in 'up']")
@click.option("--step-tokens", type=click.IntRange(8), help="With --url: tokens in one step.  [default: 2048]")
@click.option(
    "--context-tokens", type=click.IntRange(256), help="Longest prompt and answer.  [default: the settings']"
)
@click.option("--api-key-env", help="With --url: the environment variable that holds its key.")
@click.option("--seconds", type=click.FloatRange(5), help=f"How long to measure.  [default: {SECONDS:g}]")
@click.option("--quick", is_flag=True, help=f"Fewer points, {QUICK_SECONDS:g} seconds.")
@click.option("--no-power", is_flag=True, help="Leave out what it draws, and all the time for how long steps are.")
@click.option("--accelerator", help="What to call the machine.  [default: its processor]")
@click.option("--precision", help="What to call the weights' precision.  [default: as the file's name says]")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the profile.")
@place_options
@json_option
def command(
    model: str | None,
    url: str | None,
    slots: int | None,
    threads: int | None,
    step_tokens: int | None,
    context_tokens: int | None,
    api_key_env: str | None,
    seconds: float | None,
    quick: bool,
    no_power: bool,
    accelerator: str | None,
    precision: str | None,
    output: Path | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Measure an engine's steps and fit a profile for the twin.

    Starts the embedded engine as 'underlay up' does, or asks the server at --url; lets batches decode and prompts
    come in; fits how long its steps are; and shows how far that is from steps it was not fitted to. Where a meter
    of this machine sees the engine, it also finds what it draws idle, by batch and with prompts. A scenario can
    name the file, and 'underlay up' takes that of its own engine from the data directory. Leave the machine alone
    meanwhile.

    \b
    Examples:
      underlay calibrate --quick
      underlay calibrate --model ~/models/qwen3-8b-q4_k_m.gguf --output qwen3-8b.profile.json
      underlay calibrate --url http://10.0.0.5:8000 --model llama --slots 64 --accelerator h100-sxm
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    _refuse_unwritable(output)
    at_most_s = seconds or (QUICK_SECONDS if quick else SECONDS)
    sizes = {"slots": slots, "context_tokens": context_tokens}
    if url:
        subject = _elsewhere(config, url, model, {**sizes, "step_tokens": step_tokens}, api_key_env)
    else:
        subject = _ours(config, data_dir, model, {**sizes, "threads": threads})
    if no_power:
        subject = subject._replace(meters=None)
    server, measured = _measured(subject, at_most_s, quick=quick)
    found = _fitted(subject, server, measured, accelerator, precision)
    written = [path for path in (output, _kept(subject, server)) if path is not None]
    for path in written:
        _write(path, found)
    if as_json:
        _says.result_json("calibrate", _calibrated.fields(server, found, written))
    else:
        _says.result(_calibrated.told(server, found, written))


class _Subject(NamedTuple):
    """What is measured: how to come by it, what it is called, with which meters, and where the profile is kept."""

    opened: Callable[[], AbstractAsyncContextManager[Server]]
    accelerator: str
    precision: str
    about: str
    meters: MeterSettings | None
    data_dir: Path | None = None


def _ours(config: Path | None, data_dir: Path | None, named: str | None, sizes: dict[str, int | None]) -> _Subject:
    """A replica of a model in the settings, or of a GGUF file, started as ``up`` does."""
    from underlay.cli.version import installed
    from underlay.live import calibration
    from underlay.live.settings_file import load

    settings = load(config, os.environ, {"data_dir": data_dir}).settings
    model = _model(settings, named)
    if model.engine.kind != "llamacpp" or model.engine.addresses:
        hint = f"underlay calibrate --url {model.engine.addresses[0] if model.engine.addresses else 'ADDRESS'}"
        raise Failure("not_ours", f"{model.name} is not started here", hint, exit_code=USAGE)
    threads = sizes["threads"] or calibration.threads_each(model)
    slots = sizes["slots"] or model.engine.slots
    engine = model.engine.model_copy(update={"threads": threads, "slots": slots})
    context_tokens = sizes["context_tokens"] or model.context_tokens
    model = model.model_copy(update={"engine": engine, "context_tokens": context_tokens})
    path = engine.path or Path("gemma-3-270m-q4_k_m.gguf")
    processor, cores = _processor()
    return _Subject(
        lambda: calibration.started(model, settings.data_dir, _says.progress),
        accelerator=f"{processor}, {threads} of {cores} cores",
        precision=_precision(path.stem),
        about=f"llama.cpp (xllamacpp {installed('xllamacpp')}), {slots} slots, CPU threads: {threads}",
        meters=settings.meters,
        data_dir=settings.data_dir,
    )


def _elsewhere(
    config: Path | None, url: str, model: str | None, sizes: dict[str, int | None], api_key_env: str | None
) -> _Subject:
    """A server that somebody else runs."""
    from underlay.live import calibration
    from underlay.live.settings_file import load

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Server]:
        key = os.environ.get(api_key_env, "") if api_key_env else ""
        yield await calibration.found(url, model or "", **sizes, api_key=key)

    meters = load(config, os.environ, {}).settings.meters
    about = "a server reached by address"
    return _Subject(opened, accelerator="unnamed", precision="unnamed", about=about, meters=meters)


def _model(settings: Settings, named: str | None) -> ModelSettings:
    known = {model.name: model for model in settings.models}
    if named is None:
        return settings.models[0]
    if named in known:
        return known[named]
    path = Path(named).expanduser()
    if not path.is_file():
        names = ", ".join(known)
        raise Failure(
            "not_found", f"no model and no file is called {named}", f"one of: {names}", exit_code=NOT_FOUND
        )
    from underlay.cli.up import model_name

    first = settings.models[0]
    engine = first.engine.model_copy(update={"path": path})
    return first.model_copy(update={"name": model_name(path), "engine": engine})


def _precision(name: str) -> str:
    """What a GGUF file's name says of its weights."""
    found = re.search(r"(?:^|[-._])((?:iq|q)[0-9](?:_[0-9a-z]+)*|bf16|f16|f32)(?:$|[-.])", name.lower())
    return found[1] if found else "unnamed"


def _processor() -> tuple[str, int]:
    """The processor by its maker's name, and how many cores of it we may use; no name of the host."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine()), len(os.sched_getaffinity(0))


def _measured(subject: _Subject, seconds: float, *, quick: bool) -> tuple[Server, Measured]:
    """Measure, with a bar on stderr; whatever happens, no engine of ours is left behind."""
    import asyncio

    from underlay.live import calibration, logs
    from underlay.live.settings import LogSettings

    logs.configure(LogSettings(level="error"))
    label = f"measuring for {_says.span(seconds)}"

    async def measure() -> tuple[Server, Measured]:
        dice = random.Random(_SEED)  # noqa: S311 -- prompts, no secrets
        async with subject.opened() as server:
            with click.progressbar(length=1000, label=label, file=sys.stderr, show_percent=True) as bar:
                measured = await calibration.measure(
                    server,
                    subject.meters,
                    seconds,
                    quick=quick,
                    dice=dice,
                    progress=lambda share: bar.update(round(1000 * share) - bar.pos),
                )
            return server, measured

    try:
        return asyncio.run(measure())
    except calibration.CalibrationFailed as failure:
        raise Failure("not_measured", str(failure), "underlay doctor", exit_code=UNREACHABLE) from None
    except ValueError as error:
        raise Failure("usage", str(error), "underlay calibrate --help", exit_code=USAGE) from None


def _fitted(
    subject: _Subject, server: Server, measured: Measured, accelerator: str | None, precision: str | None
) -> Calibration:
    from underlay.live import calibration

    today = datetime.now(UTC).date().isoformat()
    machine = calibration.Machine(
        accelerator or subject.accelerator,
        server.model,
        precision or subject.precision,
        "llama.cpp" if server.kind == "llamacpp" else "openai",
        f"underlay calibrate, {today}: {subject.about}",
        _rules(server),
    )
    try:
        found = calibration.calibrate(measured.samples, machine, measured.overheads_s)
    except calibration.CalibrationFailed as failure:
        raise Failure("not_fitted", str(failure), "underlay calibrate --seconds 300") from None
    return calibration.with_power(found, measured)


def _rules(server: Server) -> EngineRules:
    """What the engine was started with, for whoever models it."""
    from underlay.physics.profiles import EngineRules

    if server.kind == "openai":
        return EngineRules(max_sequences=server.slots, step_tokens=server.step_tokens)
    return EngineRules(slots=server.slots, slot_tokens=server.context_tokens, step_tokens=server.step_tokens)


def _refuse_unwritable(output: Path | None) -> None:
    """Before minutes are spent on it."""
    folder = output.absolute().parent if output is not None else None
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise Failure("not_writable", f"{folder} is no folder that can be written", exit_code=USAGE)


def _kept(subject: _Subject, server: Server) -> Path | None:
    """Where the profile of an engine of ours is kept, so that ``up`` finds it."""
    from underlay.live.energy.prior import profile_path

    if subject.data_dir is None:
        return None
    return profile_path(subject.data_dir, server.model)


def _write(output: Path, found: Calibration) -> None:
    import msgspec

    from underlay.twin.report.files import write_text

    try:
        output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(output, msgspec.json.format(msgspec.json.encode(found.line), indent=0).decode() + "\n")
    except OSError as error:
        raise Failure("not_writable", f"{error}", "--output with another path") from None
