"""A platform over scripted engines, its keys, and a crowd in a process of its own that asks it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from harness import Figures
from live.load import closed_loop, post
from tests.support.platform import RunningPlatform, running_platform

ROOT = Path(__file__).resolve().parents[2]
SCRIPTED = ROOT / "tests/support/scripted.py"
CROWD = Path(__file__).with_name("crowd.py")

#: So many at a time on three engines, of so long: some eighteen requests a second.
ENGINES, SLOTS = 3, 8
TTFT_MS, ITL_MS, TOKENS = 300, 25, 40


class House(NamedTuple):
    """What runs."""

    platform: RunningPlatform
    engines: list[subprocess.Popen[bytes]]


@contextlib.contextmanager
def scripted(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scripted engine as a process."""
    process = subprocess.Popen([sys.executable, str(SCRIPTED), *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["listening"], process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def house(
    folder: Path,
    *,
    slots: int = SLOTS,
    ttft_ms: int = TTFT_MS,
    itl_ms: int = ITL_MS,
    tokens: int = TOKENS,
    **desk: Any,
) -> Iterator[House]:
    """Three engines and a platform over them; ``desk`` are settings of that section."""
    script = ("--slots", slots, "--ttft-ms", ttft_ms, "--itl-ms", itl_ms, "--tokens", tokens)
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(scripted(*map(str, script))) for _ in range(ENGINES)]
        served = {
            "kind": "llamacpp",
            "addresses": [url for url, _ in engines],
            "slots": slots,
            "template": "transcript",
        }
        settings = {
            "models": [{"name": "scripted", "engine": served}],
            "log": {"format": "json", "level": "warning"},
            "desk": desk,
        }
        platform = stack.enter_context(running_platform(folder, settings))
        yield House(platform, [process for _, process in engines])


def chat(text: str, tokens: int | None = TOKENS) -> dict[str, Any]:
    """The body of a streamed chat."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": text}], "stream": True}
    return body if tokens is None else {**body, "max_tokens": tokens}


def measured_capacity(figures: Figures, platform: RunningPlatform) -> float:
    """Requests per second of a closed loop with one caller per slot."""
    target = post(platform.url, "/v1/chat/completions", chat("Go"), platform.key)
    slots = ENGINES * SLOTS
    uvloop.run(closed_loop(target, b'"content":"', streams=slots, rounds=2, over_s=1.0))
    done, took = uvloop.run(closed_loop(target, b'"content":"', streams=slots, rounds=8))
    cut = [stream for stream in done if not stream.clean]
    assert not cut, f"{len(cut)} streams were cut or refused: {[stream.status for stream in cut[:5]]}"
    capacity = len(done) / took
    how = f"closed loop, {slots} callers on as many slots of {ENGINES} scripted engines; {TOKENS} tokens each"
    figures.add("capacity", capacity, "req/s", how=how)
    return capacity


class Caller(NamedTuple):
    """A kind of caller in a crowd."""

    name: str
    key: str
    body: dict[str, Any]


class Asked(NamedTuple):
    """One request of a crowd. Times are seconds from the crowd's beginning; ``asked_s`` is when it was due.

    ``answered_s`` is its first byte, ``first_s`` its first token (if any), ``ended_s`` its end.
    """

    who: str
    asked_s: float
    sent_s: float
    status: int
    answered_s: float
    first_s: float | None
    ended_s: float
    tokens: int
    whole: bool

    @property
    def ttft_s(self) -> float:
        return float("inf") if self.first_s is None else self.first_s - self.asked_s

    def good(self, slo_s: float) -> bool:
        """Whether it was answered whole, and soon enough."""
        return self.whole and self.ttft_s <= slo_s


class Phase(NamedTuple):
    """A stretch of load: requests per second by caller; at random moments, or evenly spaced."""

    seconds: float
    rates: dict[str, float]
    even: bool = False


def crowd(
    platform: RunningPlatform, callers: Sequence[Caller], phases: Sequence[Phase], seed: int = 1
) -> list[Asked]:
    """Let a crowd ask, whatever it gets; returns when all have been answered."""
    plan = {
        "url": platform.url,
        "seed": seed,
        "callers": [caller._asdict() for caller in callers],
        "phases": [phase._asdict() for phase in phases],
    }
    process = subprocess.Popen([sys.executable, str(CROWD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    limit = threading.Timer(sum(phase.seconds for phase in phases) + 60, process.kill)
    limit.start()
    try:
        said, _ = process.communicate(json.dumps(plan).encode())
    finally:
        limit.cancel()
        process.kill()
        process.wait()
    return [Asked(*row) for row in json.loads(said)]


def pin(pid: int, core: int) -> None:
    """Keep a process, threads and all, on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread.name), {core})
