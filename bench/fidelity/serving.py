"""Two real runs of vLLM, request for request: does the modelled engine answer when the real one did?"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fidelity.refit import DATA
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


def requests(figures: Figures) -> None:
    """Means and tails of both runs; only the host's time per step (1 ms) was chosen with them in view."""
    for (accelerator, model), rules in RUNS.items():
        real, ours = replay(accelerator, model, rules)
        _compare(figures, accelerator, real, ours)


def replay(accelerator: str, model: str, rules: PagedRules) -> tuple[list[Served], list[Served]]:
    """What the real engine did, and what the modelled one does with the same requests at the same times."""
    with (DATA / "requests" / f"{accelerator}_{model}.csv").open(encoding="utf-8") as file:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    real = [
        _served(row["queued_s"], row["first_token_s"], row["last_token_s"], int(row["completion_tokens"]))
        for row in rows
    ]
    engine = ModelledEngine(rules, profiles.find(accelerator, model, "tp1", "bf16").coefficients)
    asked = [Request(i, int(row["prompt_tokens"]), int(row["completion_tokens"])) for i, row in enumerate(rows)]
    for row, request in zip(rows, asked, strict=True):
        engine.advance(row["queued_s"])
        assert engine.arrive(row["queued_s"], request)
    engine.advance(1e9)
    return real, [
        _served(r.arrived_at, r.first_token_at or 0.0, r.finished_at or 0.0, r.output_tokens) for r in asked
    ]


def _served(arrived_at: float, first_at: float, last_at: float, tokens: int) -> Served:
    return Served(first_at - arrived_at, (last_at - first_at) / max(tokens - 1, 1), last_at - arrived_at)


def _compare(figures: Figures, accelerator: str, real: Sequence[Served], ours: Sequence[Served]) -> None:
    def off(name: str, was: float, said: float, at_most: float) -> None:
        how = f"{said:.4g} s, really {was:.4g} s"
        figures.add(f"{accelerator} {name}", 100 * abs(said / was - 1), "%", at_most=at_most, how=how)

    for index, name, limit in ((1, "TPOT mean", 5.0), (2, "E2E mean", 5.0), (0, "TTFT mean", 10.0)):
        off(name, *(statistics.mean(served[index] for served in run) for run in (real, ours)), limit)
    for share in (0.9, 0.99):
        off(f"TTFT p{100 * share:.0f}", *(percentile([s.ttft_s for s in run], share) for run in (real, ours)), 10.0)
