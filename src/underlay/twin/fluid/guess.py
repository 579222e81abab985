"""How many requests a second end in a replica with so many inside, reckoned from its step times?

The first guess, good to some per cent: it says which loads to measure, and gives the measured curve its shape
between two of them. With B requests decoding, each step makes B tokens; prompts stretch some of the steps. In
balance

    rate(B) = B / (tokens · T(B) + B · c(B))

where T is a step that only decodes, c what a prompt adds to the steps it shares (its mean), and tokens the mean
length of an answer: B requests at a time, each there for its tokens' steps and for all prompts that come meanwhile
(Little's law).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from underlay.physics.step_time import StepCoefficients, attention_pairs
from underlay.twin.engine import PagedRules, SlotRules

Floats = npt.NDArray[np.float64]

_PROMPTS = 64


class Guess:
    """The rates of one replica under typical ``lengths``: tokens of prompts and their answers.

    ``most`` is how many requests it runs at a time.
    """

    def __init__(
        self, lengths: Sequence[tuple[int, int]], rules: PagedRules | SlotRules, times: StepCoefficients
    ) -> None:
        prompts, outputs = np.array(lengths, dtype=np.float64).T
        self._times = times
        # In order of length, as few by chance would be a poor mean of such unlike ones.
        self._prompts = np.sort(prompts)[len(prompts) // _PROMPTS // 2 :: max(1, len(prompts) // _PROMPTS)]
        self.output_tokens = float(outputs.mean())
        #: What a decoding request has in the cache, in the mean over its tokens.
        self.context_tokens = float((outputs * (prompts + 0.5 * outputs)).sum() / outputs.sum())
        self.most = _most(rules, self.context_tokens)

    def rate_per_s(self, inside: float) -> float:
        """Requests per second that end with so many inside (above 0)."""
        return inside / self.seconds(inside)

    def seconds(self, inside: float, slowdown: float = 1.0) -> float:
        """How long a request is inside with so many inside, with clocks so many times slower."""
        times = self._times if slowdown == 1.0 else self._times.throttled(slowdown)
        decode_s = self._decode_s(times, inside)
        return self.output_tokens * decode_s + max(inside, 1.0) * self._prompt_s(times, inside, decode_s)

    def prompt_s(self, inside: float) -> float:
        """What a prompt adds, in the mean, to the steps it shares with so many."""
        return self._prompt_s(self._times, inside, self._decode_s(self._times, inside))

    def stretch(self, inside: float, slowdown: float) -> float:
        """How many times longer a request is inside with clocks so many times slower."""
        return self.seconds(inside, slowdown) / self.seconds(inside) if slowdown > 1.0 else 1.0

    def _decode_s(self, times: StepCoefficients, inside: float) -> float:
        """A step that only decodes; below one request, that of one."""
        batch = max(inside, 1.0)
        low = int(batch)
        share = batch - low
        kv_tokens = self.context_tokens
        first = times.decode_step_s(low, int(low * kv_tokens))
        return first + share * (times.decode_step_s(low + 1, int((low + 1) * kv_tokens)) - first)

    def _prompt_s(self, times: StepCoefficients, inside: float, decode_s: float) -> float:
        batch = max(1, round(inside))
        kv_tokens = int(batch * self.context_tokens)
        steps_s = [
            times.step_s(int(tokens), batch, kv_tokens, attention_pairs(int(tokens), 0))
            for tokens in self._prompts.tolist()
        ]
        return max(0.0, float(np.mean(steps_s)) - decode_s)


def _most(rules: PagedRules | SlotRules, context_tokens: float) -> float:
    if isinstance(rules, SlotRules):
        return float(rules.slots)
    return max(1.0, min(float(rules.max_sequences), rules.blocks * rules.block_tokens / context_tokens))
