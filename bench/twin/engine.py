"""How many requests a second does the model of one replica serve?

Requests are made beforehand and arrive at a random pace (Poisson); their lengths are Azure's conversations of 2023,
the replica is vLLM with Llama 3.1 8B on an H100. The count of bytecodes is the same on every machine.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import islice
from types import FrameType
from typing import Any, NamedTuple

from harness import Figures

from underlay.physics import profiles
from underlay.physics.step_time import StepCoefficients
from underlay.twin.crowd import trace_files
from underlay.twin.engine import ModelledEngine, PagedRules, Request

RATES = (4.0, 8.0, 12.0)
REQUESTS = 15_000
COUNTED = 1_000
RUNS = 7
SEED = 1
#: As many prompts begin alike as there are of these: with 15,000 requests some thirty each.
BEGINNINGS = 500
RULES = PagedRules(blocks=27_000)
#: Of these blocks 41,000 tokens go in: memory runs out now and then, as on a small accelerator.
SCARCE = PagedRules(blocks=2_588)


class Arrival(NamedTuple):
    """A request and its time."""

    at_s: float
    request: Request


def engine(figures: Figures) -> None:
    """Requests a second at three paces together; then with prefixes to be found, and with scarce memory."""
    times = profiles.find("h100-sxm", "llama-3.1-8b", "tp1", "bf16").coefficients
    lengths = [
        (row.prompt_tokens, row.output_tokens) for row in trace_files.read(trace_files.locate("azure-2023-conv"))
    ]
    figures.add(
        "calibration: one step of a fixed loop", loop_ns(), "ns", how="x = (x * 31 + i) & 0xFFFF; median of 7"
    )
    how = f"{len(RATES)} x {REQUESTS:,} requests at {RATES[0]:g} to {RATES[-1]:g} a second; median of {RUNS}"
    plain = speed(lengths, times, RULES, links=False)
    figures.add("engine: requests", plain, "/s", at_least=150_000, aim=280_000, how=how)
    tokens = statistics.fmean(output for _, output in lengths)
    figures.add("engine: output tokens", plain * tokens / 1e6, "million/s")
    figures.add(
        "engine: requests with prefixes to be found", speed(lengths, times, RULES, links=True), "/s", how=how
    )
    figures.add("engine: requests, memory scarce", speed(lengths, times, SCARCE, links=False), "/s", how=how)
    if not hasattr(ModelledEngine.advance, "__code__"):
        return  # compiled: there are no bytecodes
    for name, links in (("", False), (", prefixes to be found", True)):
        bytecodes, calls = count(lengths, times, links=links)
        figures.add(
            f"engine: bytecodes for a request{name}", bytecodes, "", how=f"{COUNTED:,} requests, 8 a second"
        )
        figures.add(f"engine: calls for a request{name}", calls, "")


def speed(lengths: Sequence[tuple[int, int]], times: StepCoefficients, rules: PagedRules, *, links: bool) -> float:
    """Requests per second of processor time, all paces together."""
    took_s = []
    for _ in range(RUNS):
        crowds = [crowd(lengths, rate, REQUESTS, links=links) for rate in RATES]
        began_s = time.process_time()
        for arrivals in crowds:
            serve(arrivals, times, rules)
        took_s.append(time.process_time() - began_s)
    return len(RATES) * REQUESTS / statistics.median(took_s)


def serve(arrivals: Sequence[Arrival], times: StepCoefficients, rules: PagedRules) -> None:
    """Let a new replica serve them all."""
    replica = ModelledEngine(rules, times)
    arrive = replica.arrive
    for at_s, request in arrivals:
        arrive(at_s, request)
    replica.advance(1e12)
    assert len(replica.ended) == len(arrivals)


def crowd(lengths: Sequence[tuple[int, int]], rate: float, requests: int, *, links: bool) -> list[Arrival]:
    """The trace's lengths, thrown into another order, at such a pace."""
    dice = random.Random(SEED)
    at_s, arrivals = 0.0, []
    for name in range(requests):
        at_s += dice.expovariate(rate)
        prompt, output = dice.choice(lengths)
        chain = _chain(dice.randrange(BEGINNINGS), (prompt + output) // RULES.link_tokens) if links else ()
        arrivals.append(Arrival(at_s, Request(name, prompt, output, chain)))
    return arrivals


def _chain(root: int, links: int) -> tuple[int, ...]:
    dice = random.Random(root)
    return tuple(islice(iter(lambda: dice.getrandbits(62), None), links))


def count(lengths: Sequence[tuple[int, int]], times: StepCoefficients, *, links: bool) -> tuple[float, float]:
    """Bytecodes and calls of Python functions for a request."""
    arrivals = crowd(lengths, 8.0, COUNTED, links=links)
    counts = {"opcode": 0, "call": 0}

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event in counts:
            counts[event] += 1
        return trace

    sys.settrace(trace)
    try:
        serve(arrivals, times, RULES)
    finally:
        sys.settrace(None)
    return counts["opcode"] / COUNTED, counts["call"] / COUNTED


def loop_ns() -> float:
    """What a step of a fixed loop costs here."""
    took = []
    for _ in range(7):
        began_s, x = time.process_time(), 0
        for i in range(300_000):
            x = (x * 31 + i) & 0xFFFF
        took.append((time.process_time() - began_s) / 300_000 * 1e9)
    return statistics.median(took)
