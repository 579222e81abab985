"""How long does one step of an engine take?

An engine with continuous batching works in steps: each computes the next token of every decoding sequence and, in
what is left of its token budget, a chunk of one or more prompts. The time of a step depends on four sums only, the
prompt tokens P in it, the token pairs that their attention looks at, the decoding sequences B and the tokens S that
those have in the KV cache:

    T = G + (P > 0)·(b0 + b1·P + b2·pairs)·m + (B > 0)·(a0 + aB·B + aS·S)·m + h

where G, the time of all matrix products, is a table: by B in a step that only decodes, by P + B in one with
prompt tokens. Only a table carries the floor of reading all weights, the tiles of the tensor cores and the experts
that wake one after the other; straight lines were tried in its place and miss by tens of per cent. m = 1 + kappa·B
in a step that mixes prompts and decoding, as its attention costs more than the sum of both; 1 otherwise. h is
what the host does in each step. That S is enough, and not the length of each sequence, was measured: a spread of
lengths in the batch moves the attention of a step by about 5 % of the spread.

A stretch of steps that only decode has a closed form: each sequence grows by one token in each step, so step j
(from 0) costs ``first_s + j·growth_s``, and k steps cost an arithmetic series.

Refused here: schedules, queues, clocks, and what a token means. Whoever calls forms the batch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

#: How many numbers of tokens are kept with what was found in the table for them.
_KEPT_TOKENS = 1 << 16
#: By the number of sequences or tokens in a step: how many times slower than it could the clock runs.
Slowdown = Callable[[float], float]


class Curve:
    """A table over a whole number of tokens or sequences, straight between its knots.

    Below the first knot its value holds (a step reads all weights whatever it computes); beyond the last one the
    slope of the last piece goes on.
    """

    __slots__ = ("_slopes", "knots", "values_s")

    def __init__(self, knots: Sequence[float], values_s: Sequence[float]) -> None:
        if len(knots) != len(values_s) or not knots:
            raise ValueError(f"A curve needs a value for each knot, got {len(knots)} and {len(values_s)}.")
        pairs = list(pairwise(knots))
        if any(before >= after for before, after in pairs):
            raise ValueError("The knots of a curve must rise.")
        self.knots = tuple(float(knot) for knot in knots)
        self.values_s = tuple(float(value) for value in values_s)
        rises = [after - before for before, after in pairwise(values_s)]
        slopes = [rise / (after - before) for rise, (before, after) in zip(rises, pairs, strict=True)]
        # One slope for each knot; the last one is that of the last piece, never falling: more work is not quicker.
        self._slopes = (*slopes, max(slopes[-1], 0.0)) if slopes else (0.0,)

    def at(self, count: float) -> float:
        """The seconds at this count."""
        index = bisect_right(self.knots, count) - 1
        if index < 0:
            return self.values_s[0]
        return self.values_s[index] + (count - self.knots[index]) * self._slopes[index]

    def times(self, factor: float) -> Curve:
        """The same curve with all its seconds times ``factor``."""
        return Curve(self.knots, [value * factor for value in self.values_s])

    def through(self, value_s: Callable[[float], float]) -> Curve:
        """Another curve over the same counts, with doublings between them where there were few."""
        doublings = [2.0**power for power in range(int(self.knots[-1]).bit_length())]
        knots = sorted({*self.knots, *(count for count in doublings if count > self.knots[0])})
        return Curve(knots, [value_s(count) for count in knots])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and (self.knots, self.values_s) == (other.knots, other.values_s)

    def __hash__(self) -> int:
        return hash((self.knots, self.values_s))

    def __repr__(self) -> str:
        return f"Curve(to {self.knots[-1]:g}: {self.values_s[-1]:.6f} s)"


def attention_pairs(chunk_tokens: int, cached_tokens: int) -> float:
    """The token pairs that the attention of a chunk looks at: each token of it, at all before it."""
    return chunk_tokens * (cached_tokens + 0.5 * chunk_tokens)


@dataclass(frozen=True, slots=True)
class StepCoefficients:
    """What a step of one engine, model, accelerator and parallelism costs, in seconds (see the formula above).

    ``decode`` and ``mixed`` are G by decoding sequences and by tokens. ``mixed_slowdown`` is kappa. A step of
    nothing takes no time.
    """

    decode: Curve
    mixed: Curve
    decode_fixed_s: float
    decode_sequence_s: float
    decode_kv_token_s: float
    prefill_fixed_s: float
    prefill_token_s: float
    prefill_pair_s: float
    mixed_slowdown: float = 0.0
    host_s: float = 0.0
    #: What was asked before: of a decode-only step the part that depends on the batch alone and what a token in the
    #: KV cache costs, of any step the attention that depends on the batch alone, and G and h by tokens.
    _batches_s: list[float] = field(init=False, repr=False, compare=False, default_factory=lambda: [0.0])
    _kv_tokens_s: list[float] = field(init=False, repr=False, compare=False, default_factory=list)
    _attention_s: list[float] = field(init=False, repr=False, compare=False, default_factory=lambda: [0.0])
    _mixed_s: dict[int, float] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.decode.values_s[0], self.mixed.values_s[0]) <= 0.0:
            raise ValueError("A step takes some time: the tables must hold numbers above 0.")

    def __deepcopy__(self, _memo: dict[int, Any]) -> StepCoefficients:
        return self  # it never changes: engines of the same kind share it, and so do copies of their world

    def batches_s(self, sequences: int) -> Sequence[float]:
        """The part of a decode-only step that depends on the batch alone, for each batch up to that many.

        What the tokens in the KV cache cost comes to it: see ``kv_tokens_s``.
        """
        known = self._batches_s
        for count in range(len(known), sequences + 1):
            attention_s = self.decode_fixed_s + self.decode_sequence_s * count
            self._attention_s.append(attention_s)
            known.append(self.decode.at(count) + attention_s + self.host_s)
        return known

    def kv_tokens_s(self, sequences: int) -> Sequence[float]:
        """What each token in the KV cache costs in a decode-only step, for each batch up to that many."""
        known = self._kv_tokens_s
        known.extend([self.decode_kv_token_s] * (sequences + 1 - len(known)))
        return known

    def step_s(
        self, prefill_tokens: int, decode_sequences: int, kv_tokens: int, prefill_pairs: float | None = None
    ) -> float:
        """The time of one step.

        ``kv_tokens`` is the sum of the contexts of the decoding sequences; ``prefill_pairs`` the sum of
        ``attention_pairs`` over the chunks in the step (by default that of one new prompt).
        """
        if prefill_tokens <= 0:
            return self.decode_step_s(decode_sequences, kv_tokens)
        pairs = 0.5 * prefill_tokens * prefill_tokens if prefill_pairs is None else prefill_pairs
        if decode_sequences <= 0:
            decode_sequences = kv_tokens = 0
        return self.mixed_step_s(prefill_tokens, decode_sequences, kv_tokens, pairs)

    def mixed_step_s(self, prefill_tokens: int, decode_sequences: int, kv_tokens: int, pairs: float) -> float:
        """The time of a step with prompt tokens, asked once for each modelled request: nothing is made good here.

        Without decoding sequences ``kv_tokens`` must be 0 as well.
        """
        try:
            return self._mixed_s[prefill_tokens + decode_sequences] + (
                self.prefill_fixed_s
                + self.prefill_token_s * prefill_tokens
                + self.prefill_pair_s * pairs
                + self._attention_s[decode_sequences]
                + self.decode_kv_token_s * kv_tokens
            ) * (1.0 + self.mixed_slowdown * decode_sequences)
        except (KeyError, IndexError):  # nobody asked for that many before
            self._find_mixed(prefill_tokens + decode_sequences)
            self.batches_s(decode_sequences)
            return self.mixed_step_s(prefill_tokens, decode_sequences, kv_tokens, pairs)

    def _find_mixed(self, tokens: int) -> None:
        if len(self._mixed_s) >= _KEPT_TOKENS:
            self._mixed_s.clear()
        self._mixed_s[tokens] = self.mixed.at(tokens) + self.host_s

    def decode_step_s(self, decode_sequences: int, kv_tokens: int) -> float:
        """The time of a step that only decodes."""
        if decode_sequences <= 0:
            return 0.0
        known = self._batches_s
        if decode_sequences >= len(known):
            self.batches_s(decode_sequences)
        return known[decode_sequences] + self.decode_kv_token_s * kv_tokens

    def prefill_s(self, tokens: int, cached_tokens: int = 0) -> float:
        """The time of a prompt's ``tokens`` after its first ``cached_tokens``, alone in one step."""
        return self.step_s(tokens, 0, 0, attention_pairs(tokens, cached_tokens))

    def throttled(self, slowdown: float) -> StepCoefficients:
        """The same on an accelerator whose clock is ``slowdown`` times slower (1: as it is).

        What computes takes longer; reading weights and the KV cache and the work of the host do not, as neither
        memory nor host is throttled (see ``stretched``).
        """
        if slowdown < 1.0:
            raise ValueError(f"A slowdown is at least 1, got {slowdown:g}.")
        return self if slowdown == 1.0 else self.stretched(lambda _: slowdown, lambda _: slowdown)

    def stretched(self, decode: Slowdown, mixed: Slowdown) -> StepCoefficients:
        """The same on clocks that are slower, and not in every step alike.

        A step with prompt tokens computes, and takes as many times longer as its clock is slower: so Splitwise has
        it, from 128 tokens on. One that only decodes waits for its weights: the least of the table is the time to
        read them, and stays; what a batch adds to it is taken for computing, though experts that wake are read too.
        Where a slower clock makes computing the longer of the two, at the price of a token of the longest prompt
        chunk, that counts. With the profiles that ship, a batch of 1 takes 10 % and one of 32 takes 16 % longer on
        half the clock (medians): on the slow side of the 1 to 6 % that whole requests, one at a time, took longer
        on a sixteenth (arXiv 2501.08219v4).
        """
        read_s = min(self.decode.values_s)
        token_s = self.mixed.values_s[-1] / self.mixed.knots[-1]
        full = mixed(self.mixed.knots[-1])

        def decoding_s(sequences: float) -> float:
            whole_s, slowdown = self.decode.at(sequences), decode(sequences)
            attention_s = self.decode_fixed_s + self.decode_sequence_s * sequences
            computed_s = slowdown * min(token_s * sequences, whole_s)
            stretched_s = max(read_s + (whole_s - read_s) * slowdown, computed_s)
            return stretched_s + (slowdown - full) * attention_s

        def mixed_s(tokens: float) -> float:
            slowdown = mixed(tokens)
            around_s = self.prefill_fixed_s + self.prefill_token_s * tokens
            return self.mixed.at(tokens) * slowdown + (slowdown - full) * around_s

        scaled = self.scaled(decode=full, prefill=full)
        return replace(scaled, decode=self.decode.through(decoding_s), mixed=self.mixed.through(mixed_s))

    def slowed(self, slowness: float) -> StepCoefficients:
        """The same where everything takes ``slowness`` times as long, whatever the reason (1: as it is)."""
        if slowness <= 0.0:
            raise ValueError(f"A slowness is above 0, got {slowness:g}.")
        return self.scaled(decode=slowness, prefill=slowness, kv_token=slowness, host=slowness)

    def scaled(
        self, *, decode: float, prefill: float, kv_token: float = 1.0, host: float = 1.0
    ) -> StepCoefficients:
        """The same with each part times a factor: what decodes, what computes prompts, reading the KV cache, h."""
        return StepCoefficients(
            decode=self.decode.times(decode),
            mixed=self.mixed.times(prefill),
            decode_fixed_s=self.decode_fixed_s * decode,
            decode_sequence_s=self.decode_sequence_s * decode,
            decode_kv_token_s=self.decode_kv_token_s * kv_token,
            prefill_fixed_s=self.prefill_fixed_s * prefill,
            prefill_token_s=self.prefill_token_s * prefill,
            prefill_pair_s=self.prefill_pair_s * prefill,
            mixed_slowdown=self.mixed_slowdown,
            host_s=self.host_s * host,
        )
