"""Two real runs of vLLM, request for request: does the modelled engine answer when the real one did?"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from fidelity.runs import DATA
from harness import Figures, percentile

from underlay.physics import profiles
from underlay.twin.engine import ModelledEngine, PagedRules, Request


class Served(NamedTuple):
    """When a request's tokens came, counted from its arrival."""

    ttft_s: float
    tpot_s: float
    e2e_s: float


#: The engine of each run: what vLLM said, and where it said nothing of its blocks, what its memory holds (96 GB).
RUNS = {
    ("rtx-4090", "llama-3.1-8b"): PagedRules(
        blocks=2588, max_sequences=256, step_tokens=2048, context_tokens=32_768
    ),
    ("rtx-pro-6000-server", "llama-3.1-8b"): PagedRules(blocks=33_000, max_sequences=128, step_tokens=2048),
}

#: What is tried for the host's time in each step.
HOSTS_S = (0.0, 0.5e-3, 1.0e-3, 1.5e-3)


def requests(figures: Figures) -> None:
    """Means and tails of both runs.

    Only the host's time per step (1 ms) was chosen with them in view. What is left without it, and with the one
    that suits the other run best, is told beside.
    """
    for (accelerator, model), rules in RUNS.items():
        _compare(figures, accelerator, *replay(accelerator, model, rules))
    best_s = {run: min(HOSTS_S, key=lambda host_s, run=run: _off(*replay(*run, RUNS[run], host_s))) for run in RUNS}
    for run, rules in RUNS.items():
        (other_s,) = (host_s for other, host_s in best_s.items() if other != run)
        for host_s, said in ((0.0, "no host time"), (other_s, "the host time of the other run")):
            for name, was, ours in statistics_of(*replay(*run, rules, host_s)):
                how = f"{1e3 * host_s:g} ms; {ours:.4g} s, really {was:.4g} s"
                figures.add(f"{run[0]} {name}, {said}", 100 * abs(ours / was - 1), "%", how=how)


def replay(
    accelerator: str, model: str, rules: PagedRules, host_s: float | None = None
) -> tuple[list[Served], list[Served]]:
    """What the real engine did, and what the modelled one does with the same requests at the same times.

    ``host_s`` is in place of the profile's own host time.
    """
    with (DATA / "requests" / f"{accelerator}_{model}.csv").open(encoding="utf-8") as file:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    real = [
        _served(row["queued_s"], row["first_token_s"], row["last_token_s"], int(row["completion_tokens"]))
        for row in rows
    ]
    cost = profiles.find(accelerator, model, "tp1", "bf16").coefficients
    engine = ModelledEngine(rules, cost if host_s is None else replace(cost, host_s=host_s))
    asked = [Request(i, int(row["prompt_tokens"]), int(row["completion_tokens"])) for i, row in enumerate(rows)]
    for row, request in zip(rows, asked, strict=True):
        engine.advance(row["queued_s"])
        assert engine.arrive(row["queued_s"], request)
    engine.advance(1e9)
    return real, [
        _served(r.arrived_at, r.first_token_at or 0.0, r.finished_at or 0.0, r.output_tokens) for r in asked
    ]


def statistics_of(real: Sequence[Served], ours: Sequence[Served]) -> Iterator[tuple[str, float, float]]:
    """By name, what was measured and what is said, in seconds."""
    ttft = [[served.ttft_s for served in run] for run in (real, ours)]
    yield "TTFT mean", statistics.mean(ttft[0]), statistics.mean(ttft[1])
    for share in (0.9, 0.99):
        yield f"TTFT p{100 * share:.0f}", percentile(ttft[0], share), percentile(ttft[1], share)
    for index, name in ((1, "TPOT mean"), (2, "E2E mean")):
        yield name, *(statistics.mean(served[index] for served in run) for run in (real, ours))


def _off(real: Sequence[Served], ours: Sequence[Served]) -> float:
    """How far off a run is: the mean over its statistics."""
    return statistics.mean(abs(said / was - 1.0) for _, was, said in statistics_of(real, ours))


def _served(arrived_at: float, first_at: float, last_at: float, tokens: int) -> Served:
    return Served(first_at - arrived_at, (last_at - first_at) / max(tokens - 1, 1), last_at - arrived_at)


def _compare(figures: Figures, accelerator: str, real: Sequence[Served], ours: Sequence[Served]) -> None:
    for name, was, said in statistics_of(real, ours):
        limit = 10.0 if name.startswith("TTFT") else 5.0
        how = f"{said:.4g} s, really {was:.4g} s"
        figures.add(f"{accelerator} {name}", 100 * abs(said / was - 1), "%", at_most=limit, how=how)
