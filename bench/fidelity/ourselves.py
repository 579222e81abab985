"""Our own engine, live and in the twin: one crowd of requests, asked of llama.cpp and of its model.

The embedded engine is calibrated and asked by turns: the same crowd five times, with calibrations before, between
and after. The model has the steps of all of them. It is held against every asking by itself, and against the median
of the five for each request: on a shared machine one asking holds what happened to the machine in just that second,
and no model knows that. How far each asking is from the median of the others says so. One CPU thread, whatever the
cores: llama.cpp's threads wait by spinning, and beside anything else that runs, two of them on two cores were
measured to be ten times as slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fidelity.serving import Served
from harness import Figures, percentile

from underlay.live import calibration
from underlay.live.calibration.asking import Answer, Asker, prompt
from underlay.live.settings import ModelSettings
from underlay.physics.step_time import StepCoefficients
from underlay.twin.engine import ModelledEngine, Request, SlotRules

REQUESTS = int(os.environ.get("UNDERLAY_BENCH_REQUESTS", "100"))
RUNS = 5
SWEEP_S = 40.0
#: The part of the time that the engine would be busy if it served one request after the other, decoding in threes.
LOAD = 0.7
PROMPT_TOKENS, OUTPUT_TOKENS = (16, 64), (16, 64)
SEED = 4
DATA_DIR = Path("~/.local/share/underlay").expanduser()
NAMES = ("TTFT", "TPOT", "E2E")


class Asked(NamedTuple):
    """A request of the crowd: when, counted from its first, and how long."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


class Measured(NamedTuple):
    """What came of it all; ``waited`` is the part of its time that the engine had work but no processor."""

    found: calibration.Calibration
    crowd: list[Asked]
    runs: list[list[Served]]
    slots: SlotRules
    waited: float


def ourselves(figures: Figures) -> None:
    """Errors of single requests: of the model, and of the engine against itself."""
    measured = asyncio.run(_measure())
    ours = replay(measured.crowd, measured.slots, measured.found)
    runs, settled = measured.runs, _settled(measured.runs)
    said = f"{len(measured.crowd)} requests, {measured.crowd[-1].at_s:.0f} s, asked {RUNS} times"
    for index, name in enumerate(NAMES):
        once = [_error(twin[index], live[index]) for run in runs for twin, live in zip(ours, run, strict=True)]
        errors = [_error(twin[index], live[index]) for twin, live in zip(ours, settled, strict=True)]
        floor = [
            _error(other[index], live[index])
            for number, run in enumerate(runs)
            for other, live in zip(_settled(runs[:number] + runs[number + 1 :]), run, strict=True)
        ]
        how = f"against the median of {RUNS} askings; {said}"
        figures.add(f"ourselves: {name}, median error", 100 * statistics.median(errors), "%", at_most=10.0, how=how)
        figures.add(f"ourselves: {name}, 95 % below", 100 * percentile(errors, 0.95), "%", at_most=20.0, how=how)
        for what, found in (("once, ", once), ("live against live, ", floor)):
            figures.add(f"ourselves: {name}, {what}median error", 100 * statistics.median(found), "%", how=said)
            figures.add(f"ourselves: {name}, {what}95 % below", 100 * percentile(found, 0.95), "%", how=said)
        means = [statistics.fmean(served[index] for served in run) for run in (ours, *runs)]
        how = f"{means[0]:.4g} s; live {', '.join(f'{mean:.4g}' for mean in means[1:])} s"
        figures.add(
            f"ourselves: {name}, error of the mean",
            100 * _error(means[0], statistics.fmean(means[1:])),
            "%",
            how=how,
        )
    figures.add(
        "ourselves: noise of the calibration", 100 * measured.found.noise, "%", how="median, same steps again"
    )
    figures.add(
        "ourselves: engine waited for a processor", 100 * measured.waited, "%", how="of the time it could run"
    )


async def _measure() -> Measured:
    model = ModelSettings()
    model = model.model_copy(update={"engine": model.engine.model_copy(update={"threads": 1})})
    dice = random.Random(SEED)
    samples, overheads_s, runs = [], [], []
    async with calibration.started(model, DATA_DIR) as server:
        crowd: list[Asked] = []
        _prefer()
        before = _scheduled()
        for turn in range(RUNS + 1):
            if turn % 2 == 0 or turn == RUNS:
                sweep = calibration.Sweep(server, calibration.plan(server, quick=True), dice)
                await sweep.run(SWEEP_S)
                samples += sweep.samples
                overheads_s += sweep.overheads_s
                found = calibration.calibrate(samples, calibration.Machine("", "", "", "", ""), overheads_s)
                crowd = crowd or _crowd(found.line.coefficients(), random.Random(SEED))
            if turn < RUNS:
                runs.append(await _live(server, crowd))
        ran_s, waited_s = (after - was for after, was in zip(_scheduled(), before, strict=True))
    rules = SlotRules(slots=server.slots, slot_tokens=server.context_tokens, step_tokens=server.step_tokens)
    return Measured(found, crowd, runs, rules, waited_s / max(ran_s + waited_s, 1e-9))


def _crowd(cost: StepCoefficients, dice: random.Random) -> list[Asked]:
    """Poisson arrivals, at the pace that loads this very engine as wanted; lengths even in their logarithms."""

    def length(low: int, high: int) -> int:
        return round(math.exp(dice.uniform(math.log(low), math.log(high))))

    lengths = [(length(*PROMPT_TOKENS), length(*OUTPUT_TOKENS)) for _ in range(REQUESTS)]
    work_s = [cost.prefill_s(p) + o * cost.decode_step_s(3, 3 * (p + o // 2)) / 3 for p, o in lengths]
    rate = LOAD / statistics.fmean(work_s)
    at_s, crowd = 0.0, []
    for prompt_tokens, output_tokens in lengths:
        crowd.append(Asked(at_s, prompt_tokens, output_tokens))
        at_s += dice.expovariate(rate)
    return crowd


async def _live(server: calibration.Server, crowd: Sequence[Asked]) -> list[Served]:
    """Ask the engine, each request at its time, whatever became of those before."""
    asker = Asker(server)
    dice = random.Random(SEED)
    began_s = time.monotonic()

    async def one(asked: Asked) -> Answer:
        await asyncio.sleep(began_s + asked.at_s - time.monotonic())
        return await asker.ask(prompt(asked.prompt_tokens, dice), asked.output_tokens)

    try:
        answers = await asyncio.gather(*(one(asked) for asked in crowd))
    finally:
        asker.close()
    served = []
    for asked, answer in zip(crowd, answers, strict=True):
        assert answer.count == asked.output_tokens
        first_s, last_s = answer.tokens[0].at_s, answer.tokens[-1].at_s
        served.append(_served(answer.sent_at_s, first_s, last_s, asked.output_tokens))
    return served


def replay(crowd: Sequence[Asked], rules: SlotRules, found: calibration.Calibration) -> list[Served]:
    """The same requests at the same times in the modelled engine, and what each takes beside its steps."""
    engine = ModelledEngine(rules, found.line.coefficients())
    requests = [Request(i, asked.prompt_tokens, asked.output_tokens) for i, asked in enumerate(crowd)]
    for asked, request in zip(crowd, requests, strict=True):
        engine.advance(asked.at_s)
        assert engine.arrive(asked.at_s, request)
    engine.advance(1e9)
    served = []
    beside_s = found.overhead_s
    for request in requests:
        assert request.first_token_at is not None
        assert request.finished_at is not None
        first_at, last_at = request.first_token_at + beside_s, request.finished_at + beside_s
        served.append(_served(request.arrived_at, first_at, last_at, request.output_tokens))
    return served


def _settled(runs: Sequence[Sequence[Served]]) -> list[Served]:
    """Of each request the median of its askings."""
    return [Served(*map(statistics.median, zip(*asked, strict=True))) for asked in zip(*runs, strict=True)]


def _served(arrived_at: float, first_at: float, last_at: float, tokens: int) -> Served:
    return Served(first_at - arrived_at, (last_at - first_at) / max(tokens - 1, 1), last_at - arrived_at)


def _error(said: float, was: float) -> float:
    return abs(said / was - 1.0)


def _children() -> list[Path]:
    """The processes that this one started: the engine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                found.append(folder)
    return found


def _prefer() -> None:
    """Let the engine and this process go before whatever else runs here, where the system allows that."""
    for folder in (*_children(), Path("/proc/self")):
        with contextlib.suppress(OSError):
            for thread in (folder / "task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), -20)
            (folder / "autogroup").write_text("-20")


def _scheduled() -> tuple[float, float]:
    """Seconds that the engine's threads have run, and that they could have run but had no processor."""
    ran_s = waited_s = 0.0
    for folder in _children():
        for thread in (folder / "task").iterdir():
            with contextlib.suppress(OSError):
                ran, waited, _ = (thread / "schedstat").read_text().split()
                ran_s += int(ran) / 1e9
                waited_s += int(waited) / 1e9
    return ran_s, waited_s
