"""What load does one replica carry in the steady state, by a formula alone?

With B sequences decoding all the time, each of them waits for the prompts of the B - 1 others once per answer:

    TPOT(B) = T(B, B·c) + (B - 1)·p / o,        rate(B) = B / (o·TPOT(B) + p)

T is a decode-only step of ``physics.step_time``, c the mean context over the tokens of all answers, p the mean time
of a prompt and o the mean length of an answer. Held against 225 runs of vLLM in a closed loop its median error of
TPOT is 7 %. It knows neither bursts nor queues, so nothing of TTFT but the prompt's own time: the answer is where
``sustained`` begins to look, and how offers are told apart that are far from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from underlay.physics.step_time import StepCoefficients
from underlay.twin.plan.demand import Demand

#: Prompts that stand for all when their mean time is taken.
_PROMPTS = 512
#: What of the KV cache is used before sequences are preempted.
_KV_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Shape:
    """Mean lengths of a load: prompt, answer, and context over the tokens of all answers."""

    prompt_tokens: float
    output_tokens: float
    context_tokens: float
    prompts: tuple[int, ...]

    @classmethod
    def of(cls, demand: Demand) -> Shape:
        """Of a load."""
        prompts, outputs = demand.prompt_tokens.astype(float), demand.output_tokens.astype(float)
        context = float((outputs * (prompts + outputs / 2)).sum() / outputs.sum())
        step = max(1, len(prompts) // _PROMPTS)
        few = tuple(int(tokens) for tokens in np.sort(demand.prompt_tokens)[::step])
        return cls(demand.prompt_mean, demand.output_mean, context, few)

    def prefill_s(self, times: StepCoefficients, step_tokens: int) -> float:
        """The mean time of a prompt, computed in chunks of a step's tokens."""
        return sum(prompt_s(times, tokens, step_tokens) for tokens in self.prompts) / len(self.prompts)


class Steady(NamedTuple):
    """The most that one replica carries, and what keeps it from more; ``rate_per_s`` 0: it carries nothing."""

    rate_per_s: float
    sequences: int
    tpot_s: float
    bound: str


def steady(
    times: StepCoefficients,
    shape: Shape,
    *,
    kv_tokens: float,
    step_tokens: int,
    max_sequences: int,
    ttft_s: float | None,
    tpot_s: float | None,
) -> Steady:
    """The highest load within the promise. ``ttft_s`` is what is left of it at the replica."""
    prompt = shape.prefill_s(times, step_tokens)
    first_s = times.decode_step_s(1, round(shape.context_tokens))
    if ttft_s is not None and prompt > ttft_s:
        said = f"a prompt alone takes {prompt * 1e3:,.0f} ms of the {ttft_s * 1e3:,.0f} ms left of the TTFT"
        return Steady(0.0, 0, first_s, said)
    if tpot_s is not None and first_s > tpot_s:
        said = f"a token takes {first_s * 1e3:.1f} ms with one sequence alone, the TPOT is {tpot_s * 1e3:g} ms"
        return Steady(0.0, 0, first_s, said)
    found, bound = Steady(0.0, 0, first_s, ""), "its number of sequences"
    for sequences in range(1, max_sequences + 1):
        kv = sequences * shape.context_tokens
        if kv > _KV_SHARE * kv_tokens:
            bound = "its KV cache"
            break
        token_s = times.decode_step_s(sequences, round(kv)) + (sequences - 1) * prompt / shape.output_tokens
        if tpot_s is not None and token_s > tpot_s:
            bound = "the TPOT"
            break
        found = Steady(sequences / (shape.output_tokens * token_s + prompt), sequences, token_s, "")
    return found._replace(bound=bound)


def prompt_s(times: StepCoefficients, tokens: int, step_tokens: int) -> float:
    """A prompt alone, in chunks."""
    return sum(
        times.prefill_s(min(step_tokens, tokens - done), done) for done in range(0, max(tokens, 1), step_tokens)
    )
