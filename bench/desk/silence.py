"""One of three replicas falls silent (SIGSTOP: its connections stay open) in the middle of 300 streams."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import time
from pathlib import Path

import uvloop
from harness import Figures, percentile
from live.load import Stream, post, stream
from tests.support.scripted import words

from .house import chat, house

STREAMS, TOKENS, ITL_MS = 300, 150, 100


def silence(figures: Figures, folder: Path) -> None:
    """All finish, with every token once; the longest silence that a caller saw."""
    with house(folder, slots=200, ttft_ms=50, itl_ms=ITL_MS, tokens=TOKENS) as here:
        target = post(here.platform.url, "/v1/chat/completions", chat("Go", TOKENS), here.platform.key)
        try:
            done, stopped_at = uvloop.run(_run(target, here.engines[0]))
        finally:
            here.engines[0].send_signal(signal.SIGCONT)
        whole = words(TOKENS).lstrip()
        figures.add(
            "300 streams, one of three stopped: whole", sum(s.clean for s in done), "streams", at_least=STREAMS
        )
        right = sum(_text(s) == whole for s in done)
        figures.add(
            "with every token once and in order", right, "streams", at_least=STREAMS, how=f"{TOKENS} tokens each"
        )
        gaps = [_gap_s(s, stopped_at) for s in done]
        hit = sum(gap > 0.5 for gap in gaps)
        how = f"longest silence of each stream after the stop; {hit} streams noticed one of more than 0.5 s"
        figures.add("gap p99", percentile(gaps, 0.99), "s", at_most=5, how=how)
        figures.add("gap, median of those that noticed", percentile([g for g in gaps if g > 0.5], 0.5), "s")


async def _run(target: tuple[str, int, bytes], victim: subprocess.Popen[bytes]) -> tuple[list[Stream], float]:
    running = []
    for _ in range(STREAMS):
        running.append(asyncio.create_task(stream(target, b'"content":"', keep=True)))
        await asyncio.sleep(0.005)
    await asyncio.sleep(3)
    victim.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    return list(await asyncio.gather(*running)), stopped_at


def _text(one: Stream) -> str:
    """What a stream said."""
    lines = [line for line in b"".join(one.data).split(b"\n") if line.startswith(b"data: {")]
    choices = [choice for line in lines for choice in json.loads(line[6:])["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def _gap_s(one: Stream, after: float) -> float:
    times = [moment for moment in one.events if moment >= after - 1]
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)
