"""Whose joules were those? The energy of an engine's steps, divided among the requests in them.

Of a stretch of steps the joules are known. Each request in it has what ``ledger.policies.shapley`` weighs it at:
the fixed part equally, prompts by their operations, a token each and the KV cache that it read; all of it scaled to
the joules of the stretch, as a metering window is to its meter. A test holds this against ``ledger.attribution``.

Nothing is touched once per step and sequence. Over the steps of a stretch, context is what a sequence had when it
joined plus the steps since, so with r joules for each joule of weight and steps counted from a base,

    F = sum r·(fixed/heads + steps·token)      N = sum r·steps      S = sum r·(step·steps + steps·(steps - 1)/2)

a sequence that reads ``held + growth·step`` joules of weight at a step has taken F + held·N + growth·S since the
base: two looks at three sums, at joining and at leaving. The base is moved now and then, before sums grow so large
that their differences lose digits.

A layer with a window reads no more than that. Who is within it for its whole life, or beyond it, is weighed
exactly; who crosses it is weighed at its mean over its life, which moves weight between its own steps only.

Refused here: watts, and what an account is called that an attempt's joules belong to in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .request import Request

#: Sums begin anew after that many steps.
_BASE_STEPS = 4096


@dataclass(frozen=True)
class ShareWeights:
    """What a step weighs, in joules of its model.

    For itself, for each prompt token and pair of tokens, for each decoded token, and for each token of context that
    it reads: in layers with a window, and in those without.
    """

    step_j: float
    prompt_token_j: float
    pair_j: float
    token_j: float
    windowed_token_j: float
    context_token_j: float
    window_tokens: float


class Shares:
    """The joules of one engine's requests; what was drawn for nobody is ``nobodys_j``.

    ``owed_j`` is what the steps that run draw beside what their end will tell (a clock changed meanwhile).
    """

    __slots__ = (
        "_base",
        "_context_token_j",
        "_each",
        "_growth",
        "_growths",
        "_held",
        "_helds",
        "_pair_j",
        "_prompt_token_j",
        "_running",
        "_step_j",
        "_token_j",
        "_window_tokens",
        "_windowed_token_j",
        "nobodys_j",
        "owed_j",
    )

    def __init__(self, weights: ShareWeights, running: Mapping[int, Request]) -> None:
        self._step_j = weights.step_j
        self._prompt_token_j = weights.prompt_token_j
        self._pair_j = weights.pair_j
        self._token_j = weights.token_j
        self._windowed_token_j = weights.windowed_token_j
        self._context_token_j = weights.context_token_j
        self._window_tokens = weights.window_tokens
        self._running = running
        self._base = 0
        self._each = self._held = self._growth = 0.0  # F, N, S
        self._helds = self._growths = 0.0  # of all who decode
        self.nobodys_j = 0.0
        self.owed_j = 0.0

    def stretch(self, joules: float, step: int, steps: int, sequences: int, chunks: Sequence[Request]) -> None:
        """So many steps from this one on drew that, for so many who decode and the prompts in ``chunks``."""
        if self.owed_j:
            joules += self.owed_j
            self.owed_j = 0.0
        heads = sequences + len(chunks)
        if heads == 0:
            self.nobodys_j += joules
            return
        if step - self._base > _BASE_STEPS:
            self._begin_anew(step)
        weight = fixed_j = self._step_j * steps
        reads = (step - self._base + 0.5 * (steps - 1)) * steps
        token_j = self._token_j * steps
        if sequences:
            weight += token_j * sequences + self._helds * steps + self._growths * reads
        if chunks:
            prompts_j = [self._prompt_j(request) for request in chunks]
            weight += sum(prompts_j)
        if weight <= 0.0:  # a model that knows no joules: by heads
            weight = fixed_j = float(heads)
        rate = joules / weight
        head_j = rate * fixed_j / heads
        if sequences:
            self._each += head_j + rate * token_j
            self._held += rate * steps
            self._growth += rate * reads
        if chunks:
            _charge(chunks, [head_j + rate * prompt_j for prompt_j in prompts_j])

    def joins(self, request: Request, step: int) -> None:
        """It decodes from this step on."""
        growth, context = self._context_token_j, request.computed
        held = growth * (context - step + self._base)
        if self._windowed_token_j:
            last = context + request.goal - request.produced
            if last <= self._window_tokens:
                growth += self._windowed_token_j
                held += self._windowed_token_j * (context - step + self._base)
            else:
                held += self._windowed_token_j * _mean_within(context, last, self._window_tokens)
        request.held_j, request.growth_j = held, growth
        self._helds += held
        self._growths += growth
        request.mark_j = self._each + held * self._held + growth * self._growth

    def leaves(self, request: Request) -> None:
        """It decodes no more: what it took is its own."""
        held, growth = request.held_j, request.growth_j
        request.joules += self._each + held * self._held + growth * self._growth - request.mark_j
        self._helds -= held
        self._growths -= growth

    def _prompt_j(self, request: Request) -> float:
        chunk = request.chunk
        return self._prompt_token_j * chunk + self._pair_j * chunk * (request.computed - 0.5 * chunk)

    def _begin_anew(self, step: int) -> None:
        """Settle with everybody who decodes, and count from this step on."""
        steps = step - self._base
        self._base = step
        helds = growths = 0.0
        for request in self._running.values():
            if request.joined_step >= 0:
                held, growth = request.held_j, request.growth_j
                request.joules += self._each + held * self._held + growth * self._growth - request.mark_j
                request.held_j = held = held + growth * steps
                request.mark_j = 0.0
                helds += held
                growths += growth
        self._helds, self._growths = helds, growths
        self._each = self._held = self._growth = 0.0


def _charge(chunks: Sequence[Request], chunks_j: Sequence[float]) -> None:
    """The joules of chunks; what of one was computed before, and thrown away, is waste."""
    for request, joules in zip(chunks, chunks_j, strict=True):
        if request.again_tokens:
            again_tokens = request.again_tokens - (request.computed - request.chunk)
            wasted_j = joules * min(max(again_tokens, 0), request.chunk) / request.chunk
            request.wasted_j += wasted_j
            request.joules += joules - wasted_j
        else:
            request.joules += joules


def _mean_within(first: int, last: int, window: float) -> float:
    """The mean of the lesser of context and window, over the contexts from ``first`` to below ``last``."""
    if first >= window or last <= first:
        return min(float(first), window)
    within = window - first
    total = 0.5 * within * (first + window) + (last - window) * window
    return total / (last - first)
