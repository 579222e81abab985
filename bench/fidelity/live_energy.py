"""Joules live and in the twin: a platform serves a crowd, its journal is run again, requests are compared.

The platform meters as it does anywhere (on a machine without counters by its model of processor time). Callers come
at random, for prompts and answers of all sizes, so that batches are of all sizes too; every tenth hangs up in the
middle. Then `underlay twin replay --energy` says of each request how far the twin is off, by coefficients that have
not seen it. One engine with one CPU thread, whatever the cores: threads of llama.cpp wait by spinning, which takes
processor time, and so joules, for nothing whenever something else runs here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from harness import Figures
from tests.support.platform import RunningPlatform, running_platform

from underlay.twin.recorded.energy import compare, settled_in
from underlay.twin.recorded.energy_report import EnergyReport
from underlay.twin.recorded.what_if import Question

REQUESTS = int(os.environ.get("UNDERLAY_BENCH_REQUESTS", "120"))
#: Calls a second: some two to four at a time on an engine that makes 20 to 60 tokens a second.
RATE_PER_S = float(os.environ.get("UNDERLAY_BENCH_RATE", "0.25"))
PROMPT_WORDS, OUTPUT_TOKENS = (10, 120), (16, 96)
HANGS_UP = 0.1
SEED = 7
#: Windows are closed and joules settled that long after the last answer, at the latest.
SETTLE_S = 6.0
WORDS = ("river", "bridge", "stone", "rain", "bread", "light", "people", "wait", "talk", "old", "under", "where")


def live_energy(figures: Figures) -> None:
    """How far the twin's joules of single requests, and of each account, are from those settled live."""
    with tempfile.TemporaryDirectory() as folder:
        journal = serve(Path(folder))
        report = compare(Question(journal))
        floor = own_counts(journal, report)
    said = f"{report.compared} requests; " + "; ".join(each.source for each in report.coefficients)
    figures.add("live energy: request, median off", report.median_off, "ratio", at_most=0.10, how=said)
    figures.add("live energy: request, 90 % below", report.p90_off, "ratio", how=said)
    how = "the same requests, and the best straight line through live's own counts of their tokens"
    figures.add("live energy: live by its own tokens, median off", statistics.median(floor), "ratio", how=how)
    for each in report.accounts:
        if each.share is not None:
            how = f"{each.live_joules:.1f} J live, {each.twin_joules:.1f} J in the twin"
            figures.add(f"live energy: {each.account}, off", abs(each.share), "ratio", how=how)


def serve(folder: Path) -> Path:
    """Serve the crowd, and return the journal of it."""
    engine = {"replicas": 1, "threads": 1}
    settings = {"models": [{"name": "gemma-3-270m", "engine": engine}]}
    weights = Path("~/.local/share/underlay/models/gemma-3-270m-q4_k_m.gguf").expanduser()
    with running_platform(
        folder, settings, limit_s=120.0, weights=weights if weights.exists() else None
    ) as platform:
        _serve(platform, random.Random(SEED))
        platform.wait_idle(60.0)
        time.sleep(SETTLE_S)
    (journal,) = (folder / "data" / "journal").glob("*.journal")
    return journal


def own_counts(journal: Path, report: EnergyReport) -> list[float]:
    """How far the compared requests are from a line through the tokens that live says each had computed.

    Fitted to the very requests it is told of: what is left is the machine and the meter, or who was beside them.
    """
    every = settled_in(journal)
    settled = [every[request.ticket] for request in report.requests]
    took_j = np.array([each.joules for each in settled if each.joules])
    counts = [
        (1.0, each.usage.prompt_tokens - each.usage.cached_tokens, each.usage.completion_tokens)
        for each in settled
        if each.joules
    ]
    rows = np.array(counts) / took_j[:, None]
    factors, *_ = np.linalg.lstsq(rows, np.ones(len(took_j)), rcond=None)
    return [abs(float(off)) for off in rows @ factors - 1.0]


def _serve(platform: RunningPlatform, dice: random.Random) -> None:
    callers = []
    for _ in range(REQUESTS):
        words, tokens = dice.choices(WORDS, k=_size(dice, PROMPT_WORDS)), _size(dice, OUTPUT_TOKENS)
        asked = f"Tell me a long story about {' '.join(words)}."
        body = {
            "model": platform.models[0],
            "messages": [{"role": "user", "content": asked}],
            "max_tokens": tokens,
            "stream": True,
        }
        events = dice.randint(4, tokens) if dice.random() < HANGS_UP else None
        callers.append(threading.Thread(target=_call, args=(platform, body, events)))
        callers[-1].start()
        time.sleep(dice.expovariate(RATE_PER_S))
    for caller in callers:
        caller.join()


def _size(dice: random.Random, between: tuple[int, int]) -> int:
    """Even in its logarithm."""
    low, high = map(math.log, between)
    return round(math.exp(dice.uniform(low, high)))


def _call(platform: RunningPlatform, body: dict[str, object], events: int | None) -> None:
    """Ask, and read to the end, or hang up after so many events."""
    connection = http.client.HTTPConnection(*platform.address, timeout=300)
    headers = {"content-type": "application/json", "authorization": f"Bearer {platform.key}"}
    with contextlib.closing(connection), contextlib.suppress(http.client.HTTPException, OSError):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        reply = connection.getresponse()
        seen = 0
        while line := reply.readline():
            seen += line.startswith(b"data:")
            if events is not None and seen >= events:
                return
