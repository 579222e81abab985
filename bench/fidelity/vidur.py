"""Another simulator's run, request for request, with its costs: are the rules of the engine the same?

Vidur's iteration is a table of matrix products by tokens and two of attention, rounded up as it rounds. What a
stretch of steps needs is a straight line in the tokens of the KV cache, one for each batch; it is fitted to its
table where the run's contexts lie. Steps with prompt tokens are looked up as they are. Its scheduler is Sarathi; in
the terms of our rules: 512 tokens a step with those who decode first, 128 sequences, room for the whole prompt.

Not shown by this: that Vidur is right. Its maintainers stopped before vLLM's version 1.
"""

from __future__ import annotations

import csv
import gzip
import json
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from fidelity.runs import DATA
from fidelity.serving import Served
from harness import Figures, percentile

from underlay.twin.engine import ModelledEngine, PagedRules, Request

#: Sarathi with chunks of 512 tokens and batches of up to 128 (flags of the run).
STEP_TOKENS, MAX_SEQUENCES = 512, 128
#: Contexts that a decoding sequence of this run has on average in a batch lie within.
CONTEXTS = range(256, 2817, 256)
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
NAMES = ("TTFT", "TPOT", "E2E")


class Table:
    """Milliseconds by two numbers, straight between its points and going on straight beyond them."""

    def __init__(self, rows: Sequence[tuple[int, int, float]]) -> None:
        self._across = sorted({row[0] for row in rows})
        self._along = sorted({row[1] for row in rows})
        values = {(across, along): ms for across, along, ms in rows}
        self._ms = [[values[across, along] for along in self._along] for across in self._across]

    def at(self, across: float, along: float) -> float:
        """The milliseconds there."""
        i, u = _place(self._across, across)
        j, v = _place(self._along, along)
        low, high = self._ms[i], self._ms[i + 1]
        return (1 - u) * ((1 - v) * low[j] + v * low[j + 1]) + u * ((1 - v) * high[j] + v * high[j + 1])


def _place(points: Sequence[int], value: float) -> tuple[int, float]:
    index = min(max(bisect_right(points, value) - 1, 0), len(points) - 2)
    return index, (value - points[index]) / (points[index + 1] - points[index])


class Costs:
    """Vidur's costs as the modelled engine asks for them (``StepTimes``)."""

    def __init__(self, tables: dict[str, object]) -> None:
        linear, saves = tables["linear_ms"], tables["kv_save_ms"]
        assert isinstance(linear, dict)
        assert isinstance(saves, dict)
        self._linear_ms = {int(tokens): float(ms) for tokens, ms in linear.items()}
        self._save_ms = float(saves["512"])  # the same for any step up to 1,024 tokens
        self._decode = Table(tables["attn_decode_ms_B_meankv"])  # type: ignore[arg-type]
        self._prefill = Table(tables["attn_prefill_ms_chunk_kv"])  # type: ignore[arg-type]
        self._decode_factor = float(tables["decode_factor_if_B_gt_1"])  # type: ignore[arg-type]
        lines = [(0.0, 0.0)] + [self._line(sequences) for sequences in range(1, MAX_SEQUENCES + 1)]
        self._batches_s = [(self._matrices_ms(n) + lines[n][0]) / 1e3 for n in range(MAX_SEQUENCES + 1)]
        self._kv_tokens_s = [per_token_ms / 1e3 for _, per_token_ms in lines]

    def batches_s(self, sequences: int) -> Sequence[float]:
        """The part of a decode-only step that depends on the batch alone."""
        assert sequences <= MAX_SEQUENCES
        return self._batches_s

    def kv_tokens_s(self, sequences: int) -> Sequence[float]:
        """What each token in the KV cache costs."""
        assert sequences <= MAX_SEQUENCES
        return self._kv_tokens_s

    def mixed_step_s(self, prefill_tokens: int, decode_sequences: int, kv_tokens: int, pairs: float) -> float:
        """The time of a step with prompt tokens, as it stands in the tables."""
        cached = pairs / prefill_tokens - 0.5 * prefill_tokens
        took_ms = self._matrices_ms(prefill_tokens + decode_sequences)
        took_ms += self._prefill.at(prefill_tokens, _rounded(cached))
        if decode_sequences:
            took_ms += self._decoding_ms(decode_sequences, kv_tokens / decode_sequences)
        return took_ms / 1e3

    def _matrices_ms(self, tokens: int) -> float:
        return self._linear_ms[8 * max(ceil(tokens / 8), 1)] + self._save_ms

    def _decoding_ms(self, sequences: int, context: float) -> float:
        factor = self._decode_factor if sequences > 1 else 1.0
        return factor * self._decode.at(sequences, _rounded(context))

    def _line(self, sequences: int) -> tuple[float, float]:
        """Attention of a batch: what is fixed, and what each token of all its contexts costs, in milliseconds."""
        contexts = np.arange(CONTEXTS[0], CONTEXTS[-1], 8)  # eight in each of the steps that it rounds to
        took_ms = [self._decoding_ms(sequences, context) for context in contexts]
        slope, fixed = np.polyfit(contexts, took_ms, 1)
        return float(fixed), float(slope) / sequences


def _rounded(context: float) -> int:
    return 64 * ceil(context / 64)


class Compared(NamedTuple):
    """A statistic of theirs and of ours, in seconds."""

    name: str
    theirs_s: float
    ours_s: float

    @property
    def off(self) -> float:
        """The relative error, with its sign."""
        return self.ours_s / self.theirs_s - 1.0


def reference(figures: Figures) -> None:
    """Every percentile of the reference run: the greatest error of each measure, and what lies behind it."""
    found = compared()
    for name in NAMES:
        own = [one for one in found if one.name.startswith(name)]
        worst = max(own, key=lambda one: abs(one.off))
        how = ", ".join(f"{one.name.removeprefix(name).strip()} {100 * one.off:+.1f} %" for one in own)
        figures.add(f"Vidur: {name}, greatest error", 100 * abs(worst.off), "%", at_most=4.0, how=how)


def compared() -> list[Compared]:
    """Means and percentiles of both runs."""
    theirs, ours = replay()
    found = []
    for index, name in enumerate(NAMES):
        was, said = ([served[index] for served in run] for run in (theirs, ours))
        found.append(Compared(f"{name} mean", statistics.fmean(was), statistics.fmean(said)))
        found += [
            Compared(f"{name} p{100 * share:g}", percentile(was, share), percentile(said, share))
            for share in SHARES
        ]
    return found


def replay() -> tuple[list[Served], list[Served]]:
    """What Vidur said of each request, and what the modelled engine says with Vidur's costs."""
    with gzip.open(DATA / "vidur/costs.json.gz", "rt", encoding="utf-8") as file:
        tables = json.load(file)
    with gzip.open(DATA / "vidur/requests.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    theirs = [Served(*(float(row[name]) / 1e3 for name in ("ttft_ms", "tpot_ms", "e2e_ms"))) for row in rows]
    rules = PagedRules(
        blocks=int(tables["num_blocks"]),
        max_sequences=MAX_SEQUENCES,
        step_tokens=STEP_TOKENS,
        block_tokens=int(tables["block_size"]),
        prefix_caching=False,
    )
    engine = ModelledEngine(rules, Costs(tables))
    requests = [Request(row["id"], int(row["prefill_tokens"]), int(row["decode_tokens"])) for row in rows]
    for row, request in zip(rows, requests, strict=True):
        assert engine.arrive(float(row["arrival_s"]), request)
    engine.advance(1e9)
    return theirs, [_served(request) for request in requests]


def _served(request: Request) -> Served:
    assert request.first_token_at is not None
    assert request.finished_at is not None
    decoding_s = request.finished_at - request.first_token_at
    return Served(
        request.first_token_at - request.arrived_at,
        decoding_s / max(request.output_tokens - 1, 1),
        request.finished_at - request.arrived_at,
    )
