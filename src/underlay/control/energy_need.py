"""How many joules will a request of this model probably take?

Decided from what the meters said of requests before it: joules for each prompt token that is computed afresh and
for each token of an answer, by least squares through the origin over sums that fade, so that the latest requests
count most (a batch that fills up makes a token cheaper by a factor of seven and more). Neither rate is ever
negative. Where all requests have had about the same proportions, nothing tells the two rates apart; then every
token counts alike, which is right for more of the same. It refuses to know budgets, and joules of one request
before its meter has told.
"""

from __future__ import annotations

#: How much a request weighs after the next one: some fifty count.
_FADE = 0.98
#: Share of the sums' product that must be left to tell the two rates apart; below, proportions count as alike.
_ALIKE = 0.01


class EnergyNeed:
    """Joules for each token of one model; 0 until a meter has told."""

    __slots__ = ("_cc", "_cj", "_pc", "_pj", "_pp", "joules_completion", "joules_prompt")

    def __init__(self) -> None:
        self.joules_prompt = self.joules_completion = 0.0
        self._pp = self._pc = self._cc = self._pj = self._cj = 0.0

    def add(self, prompt_tokens: int, completion_tokens: int, joules: float) -> None:
        """Learn what a request took: of prompt tokens those that were computed afresh."""
        p, c = float(prompt_tokens), float(completion_tokens)
        self._pp = self._pp * _FADE + p * p
        self._pc = self._pc * _FADE + p * c
        self._cc = self._cc * _FADE + c * c
        self._pj = self._pj * _FADE + p * joules
        self._cj = self._cj * _FADE + c * joules
        self._fit()

    def _fit(self) -> None:
        apart = self._pp * self._cc - self._pc * self._pc
        if apart <= _ALIKE * self._pp * self._cc:
            alike = self._pp + 2.0 * self._pc + self._cc
            both = (self._pj + self._cj) / alike if alike > 0.0 else 0.0
            self.joules_prompt = self.joules_completion = max(0.0, both)
            return
        prompt = (self._pj * self._cc - self._cj * self._pc) / apart
        completion = (self._cj * self._pp - self._pj * self._pc) / apart
        if prompt < 0.0:  # the best fit that is never negative has nothing there
            prompt, completion = 0.0, self._cj / self._cc
        elif completion < 0.0:
            prompt, completion = self._pj / self._pp, 0.0
        self.joules_prompt, self.joules_completion = max(0.0, prompt), max(0.0, completion)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens will probably take, in joules."""
        return self.joules_prompt * prompt_tokens + self.joules_completion * completion_tokens
