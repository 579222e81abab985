"""Whole runs of vLLM on real machines: which are there, which can be what they say, what a profile says of them.

A run keeps a fixed number of requests going. So on average each context is the prompt and half the answer, and each
step pays a part of the others' prompts: that is the time per output token, without a simulation.

A run is *possible* if its prompts can have been computed at all: the time per token, less what reading weights and
KV cache takes at the published bandwidth, must leave room for its prompts at three quarters of the published dense
peak, more than any engine reaches over whole steps. Where it does not, prompts were found in a cache, or fewer
requests ran than were sent; the sample does not say, so such runs are counted and not scored.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from underlay.physics import catalogue
from underlay.physics.catalogue import Parallelism
from underlay.physics.step_time import StepCoefficients

DATA = Path(__file__).resolve().parent / "data"
#: The share of the dense peak that no engine exceeds in prompts over a whole run.
PEAK_SHARE_MAX = 0.75


class Name(NamedTuple):
    """What a profile is known by."""

    accelerator: str
    model: str
    parallelism: str
    precision: str


class Run(NamedTuple):
    """A run, as it was sent, and its time per output token."""

    name: Name
    prompt_tokens: int
    output_tokens: int
    at_once: int
    tpot_ms: float

    def predicted_ms(self, cost: StepCoefficients) -> float:
        """The time per output token by a profile."""
        kv_tokens = self.at_once * (self.prompt_tokens + self.output_tokens // 2)
        prompts_s = (self.at_once - 1) * cost.prefill_s(self.prompt_tokens) / self.output_tokens
        return 1e3 * (cost.decode_step_s(self.at_once, kv_tokens) + prompts_s)

    def off(self, cost: StepCoefficients) -> float:
        """The relative error, without sign."""
        return abs(self.predicted_ms(cost) / self.tpot_ms - 1.0)

    def peak_share(self) -> float:
        """What part of the peak its prompts must have been computed at; above 1 where no time is left for them."""
        on, of = catalogue.accelerator(self.name.accelerator), catalogue.model(self.name.model)
        parts = Parallelism.parse(self.name.parallelism).tensor
        small = self.name.precision != "bf16"  # then the cache may be in 8 bits as well
        active = of.active_parameters / of.parameters
        touched = 1.0 - (1.0 - active) ** self.at_once if active < 1.0 else 1.0
        kv_bytes = (of.kv_token_bytes_beyond_window or of.kv_token_bytes) * (0.5 if small else 1.0)
        cache_bytes = self.at_once * (self.prompt_tokens + 0.5 * self.output_tokens) * kv_bytes
        read_s = (of.weight_bytes(self.name.precision) * touched + cache_bytes) / parts / on.memory_bytes_s
        left_s = 1e-3 * self.tpot_ms - read_s
        if left_s <= 0.0:
            return 9.0
        tokens = (self.at_once - 1) * self.prompt_tokens / self.output_tokens
        pairs_flop = 2.0 * of.full_attention_layers * of.heads * (of.head_size or of.hidden / of.heads)
        flop = tokens * (2.0 * of.active_parameters + pairs_flop * self.prompt_tokens)
        return flop / parts / on.flop_s("fp8" if small else "bf16") / left_s

    @property
    def possible(self) -> bool:
        """Can it have been what it says?"""
        return self.peak_share() <= PEAK_SHARE_MAX


@cache
def read() -> tuple[Run, ...]:
    """All runs, in order; what the sample lists twice (under two dates, with equal times) is there once."""
    with (DATA / "runs.csv").open(encoding="utf-8") as file:
        rows = {
            Run(
                Name(row["accelerator"], row["model"], row["parallelism"], row["precision"]),
                int(row["prompt_tokens"]),
                int(row["completion_tokens"]),
                int(row["concurrency"]),
                float(row["tpot_ms"]),
            )
            for row in csv.DictReader(file)
        }
    return tuple(sorted(rows))


def halves(names: Iterable[Name]) -> tuple[list[Run], list[Run]]:
    """The runs of some profiles in turn: to fit to, and to score by."""
    wanted = set(names)
    of_these = [run for run in read() if run.name in wanted and run.possible]
    return of_these[::2], of_these[1::2]


def scored(costs: Mapping[Name, StepCoefficients], fitted_to: Iterable[Run]) -> dict[Name, list[float]]:
    """Errors of each profile, over the runs that are possible and that nothing was fitted to."""
    used = set(fitted_to)
    errors: dict[Name, list[float]] = {}
    for run in read():
        if run.name in costs and run.possible and run not in used:
            errors.setdefault(run.name, []).append(run.off(costs[run.name]))
    return errors
