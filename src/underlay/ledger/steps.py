"""What was computed in a step, and for whom?

A step has a beginning, an end and a list of works: what one request had computed in it. Four sums say what a work
takes: prompt tokens by their operations, tokens decoded, and bytes of the KV cache read for those.

    operations = 2·active parameters·tokens + 4·layers·heads·head size·pairs

The second term is attention's, over the layers that see the whole context (two operations each with keys and with
values; pairs as ``physics.step_time.attention_pairs``). Layers with a window add little to long prompts and are
left out of it. What a decoded token reads is

    bytes = beyond·context + (all - beyond)·min(context, window)

with the bytes per token of all layers and of those without a window (``physics/data/models.csv``), and the window
of ``physics/data/attention_windows.csv``. What a chunk of a prompt reads of the tokens before it is in its pairs.

Where an engine logs its steps, a record is one step. Where it only counts (llama.cpp: tokens read and decoded per
request, since somebody last looked), one record stands for all the steps of a span and says that it is ``coarse``.

Refused here: joules, and which engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

from msgspec import Struct

from underlay.physics import catalogue
from underlay.physics.step_time import attention_pairs
from underlay.physics.tables import rows

#: Why a work was done. ``recompute``: a second time, after a preemption; ``failed`` and ``abandoned``: for an
#: attempt that failed, or a caller who had left, where that is known when the window is closed; ``warming``: to
#: fill a cache before anybody asks, for nobody's request.
Purpose = Literal["answer", "recompute", "failed", "abandoned", "warming"]


class Work(Struct, frozen=True, omit_defaults=True):
    """What one request had computed in a step; ``kv_bytes`` are those that its decoding read."""

    request: str
    prefill_tokens: int = 0
    prefill_flop: float = 0.0
    decode_tokens: int = 0
    kv_bytes: float = 0.0
    purpose: Purpose = "answer"

    @property
    def tokens(self) -> int:
        """Tokens read and decoded."""
        return self.prefill_tokens + self.decode_tokens


class Step(Struct, frozen=True, omit_defaults=True):
    """One step, or ``steps`` of them on end with the same requests; seconds by the clock of the windows."""

    begin_s: float
    end_s: float
    works: tuple[Work, ...]
    steps: float = 1.0
    coarse: bool = False

    def __post_init__(self) -> None:
        if not self.works or self.end_s < self.begin_s or self.steps <= 0.0:
            raise ValueError(
                f"A step is for somebody and does not end before it begins: {self.begin_s} {self.end_s}"
            )

    def share_within(self, begin_s: float, end_s: float) -> float:
        """The part of its time that lies in a window; one that took no time lies where it begins."""
        if self.end_s <= self.begin_s:
            return float(begin_s <= self.begin_s < end_s)
        within_s = min(self.end_s, end_s) - max(self.begin_s, begin_s)
        return max(within_s, 0.0) / (self.end_s - self.begin_s)


class TokenCosts(NamedTuple):
    """What a model asks for each token: operations, and bytes of KV cache of all layers and beyond the window."""

    token_flop: float
    pair_flop: float
    kv_token_bytes: float
    kv_token_bytes_beyond_window: float
    window_tokens: float = 0.0

    def prefill(self, request: str, tokens: int, cached_tokens: int = 0, *, purpose: Purpose = "answer") -> Work:
        """A chunk of a prompt, after the first ``cached_tokens`` of it (computed before, or found in a cache)."""
        flop = self.token_flop * tokens + self.pair_flop * attention_pairs(tokens, cached_tokens)
        return Work(request, prefill_tokens=tokens, prefill_flop=flop, purpose=purpose)

    def decode(self, request: str, context_tokens: int, tokens: int = 1, *, purpose: Purpose = "answer") -> Work:
        """So many tokens on end, the first of them with this context; each makes it one longer."""
        kv_bytes = self.kv_read_bytes(context_tokens + (tokens - 1) / 2) * tokens
        return Work(request, decode_tokens=tokens, kv_bytes=kv_bytes, purpose=purpose)

    def kv_read_bytes(self, context_tokens: float) -> float:
        """What one decoded token reads of the KV cache at this context."""
        within = self.kv_token_bytes - self.kv_token_bytes_beyond_window
        return self.kv_token_bytes_beyond_window * context_tokens + within * min(context_tokens, self.window_tokens)


#: For a model outside the catalogue: a dense one of a thousand million parameters. Assumed; as a step model learns
#: its level from the meter, only how reading a token compares with decoding one hangs on it.
ANY_COSTS = TokenCosts(2e9, 2e5, 5e4, 5e4)


class Counted(NamedTuple):
    """What an engine without a step log says of one request since it was last asked.

    ``context_tokens`` are those in its KV cache before; ``prompt_tokens`` and ``decoded_tokens`` came since.
    """

    request: str
    context_tokens: int
    prompt_tokens: int
    decoded_tokens: int
    purpose: Purpose = "answer"


def token_costs(of: catalogue.Model) -> TokenCosts:
    """The costs of a model of the catalogue. For any other, a ``TokenCosts`` from its own header does."""
    return TokenCosts(
        token_flop=2.0 * of.active_parameters,
        pair_flop=of.pair_flop,
        kv_token_bytes=of.kv_token_bytes,
        kv_token_bytes_beyond_window=of.kv_token_bytes_beyond_window or of.kv_token_bytes,
        window_tokens=windows().get(of.id, 0),
    )


def costs_of(model: str) -> TokenCosts:
    """The costs of a model by its name in the catalogue, or those of any other."""
    known = catalogue.models()
    return token_costs(known[model]) if model in known else ANY_COSTS


def coarse_step(
    begin_s: float, end_s: float, costs: TokenCosts, counted: Iterable[Counted], *, chunk_tokens: int = 2048
) -> Step | None:
    """One record for all steps of the span in which the engine worked; None if nothing was counted.

    How many steps there were is reckoned, not known: as many as the request with the most tokens decoded had, and
    one for each ``chunk_tokens`` of prompts, as llama.cpp reads those in batches (2,048 tokens unless told).
    """
    works: list[Work] = []
    decoded, read = 0, 0
    for seen in counted:
        if seen.prompt_tokens:
            read_now = costs.prefill(seen.request, seen.prompt_tokens, seen.context_tokens, purpose=seen.purpose)
            works.append(read_now)
        if seen.decoded_tokens:
            context = seen.context_tokens + seen.prompt_tokens
            works.append(costs.decode(seen.request, context, seen.decoded_tokens, purpose=seen.purpose))
        decoded = max(decoded, seen.decoded_tokens)
        read += seen.prompt_tokens
    if not works:
        return None
    return Step(begin_s, end_s, tuple(works), steps=decoded + -(-read // chunk_tokens), coarse=True)


def busy_s(steps: Sequence[Step], begin_s: float, end_s: float) -> float:
    """The time of a window in which some step ran; steps may overlap (several replicas on one device)."""
    spans = sorted(
        (max(step.begin_s, begin_s), min(step.end_s, end_s))
        for step in steps
        if step.begin_s < end_s and step.end_s > begin_s
    )
    busy, until_s = 0.0, begin_s
    for began_s, ended_s in spans:
        if ended_s > until_s:
            busy += ended_s - max(began_s, until_s)
            until_s = ended_s
    return min(busy, end_s - begin_s)


@cache
def windows() -> Mapping[str, int]:
    """The windows of attention, in tokens, of the models that have one."""
    return {row["model"]: int(row["window_tokens"]) for row in rows("attention_windows.csv")}
