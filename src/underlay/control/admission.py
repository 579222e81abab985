"""Let a request in, or refuse it with a reason and a time?

Decided from the request's size, the model's policy and the caller's own limits. Rates are kept by GCRA (the
generic cell rate algorithm, ITU-T I.371): two numbers per limit, no buckets to refill, exact resets. Tokens
are reserved by estimate when a request is let in and corrected when its usage is known. It refuses to know
which replicas there are: that is routing's business.
"""

from __future__ import annotations

from underlay.domain.errors import BadRequest, LimitReached, PromptTooLong, UnknownModel
from underlay.domain.keys import Limits
from underlay.domain.policy import DeskSettings, ModelPolicy

from .events import Arrived

#: No tokenizer in use makes tokens of more bytes than this on average; beyond it a prompt cannot fit.
BYTES_PER_TOKEN_MAX = 48
#: English text by most tokenizers; only for reserving, corrected at the end.
BYTES_PER_TOKEN_USUAL = 4
#: What a float of Unix seconds cannot tell apart; who waits as long as told must not be refused for it.
_CLOCK_S = 1e-6


def model_policy(models: dict[str, ModelPolicy], asked: Arrived) -> ModelPolicy:
    """Find the model's policy; raises ``UnknownModel``, or ``BadRequest`` if it cannot do the operation."""
    policy = models.get(asked.model)
    if policy is None:
        served = ", ".join(models)
        raise UnknownModel(f"model '{asked.model}' is not served here; there is: {served}", param="model")
    if asked.operation not in policy.operations:
        raise BadRequest(f"model '{asked.model}' does not serve {asked.operation}s", param="model")
    return policy


def check_size(asked: Arrived, policy: ModelPolicy, settings: DeskSettings) -> None:
    """Refuse what cannot fit, before any engine sees it; the engine counts exactly later."""
    context = policy.context_tokens
    if asked.prompt_bytes > context * BYTES_PER_TOKEN_MAX:
        raise PromptTooLong(
            f"the prompt has {asked.prompt_bytes} bytes; the context of '{policy.name}' is {context} tokens"
        )
    if asked.max_tokens is not None and asked.max_tokens > context:
        raise BadRequest(
            f"{asked.max_tokens} tokens were asked for; the context of '{policy.name}' is {context} tokens",
            param="max_tokens",
        )
    if asked.strands > settings.strands_max:
        raise BadRequest(f"{asked.strands} answers were asked for; at most {settings.strands_max}", param="n")


class Rate:
    """One GCRA limit of ``per_minute`` units with a burst of one minute's worth.

    A take larger than the whole burst is let through when the limit is untouched, and paid off afterwards.
    The debt is kept beside the time it was reckoned at, not added to it: a float that holds seconds since 1970
    has but a quarter of a microsecond to tell, and such sums cost callers the last unit of their burst.
    """

    __slots__ = ("_debt_at", "_debt_s", "burst_s", "per_minute", "unit_s")

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.unit_s = 60.0 / per_minute
        self.burst_s = 60.0
        self._debt_s = 0.0
        self._debt_at = 0.0

    @property
    def full_at(self) -> float:
        """The theoretical arrival time: when everything taken so far will have drained away."""
        return self._debt_at + self._debt_s

    def _owed_s(self, at: float) -> float:
        return max(0.0, self._debt_s - (at - self._debt_at))

    def wait_s(self, units: int, at: float) -> float:
        """How long until ``units`` may be taken; 0 if they may be taken now."""
        wait_s = self._owed_s(at) + min(units * self.unit_s, self.burst_s) - self.burst_s
        return wait_s if wait_s > _CLOCK_S else 0.0

    def take(self, units: int, at: float) -> None:
        """Take ``units``; negative ones are given back."""
        self._debt_s = max(0.0, self._owed_s(at) + units * self.unit_s)
        self._debt_at = at

    def left(self, at: float) -> int:
        """How many units could be taken now."""
        return max(0, int((self.burst_s - self._owed_s(at) + _CLOCK_S) / self.unit_s))


class Meter:
    """What one key uses now, against its limits."""

    __slots__ = ("limits", "open_requests", "requests", "tokens")

    def __init__(self, limits: Limits) -> None:
        self.open_requests = 0
        self.set(limits)

    def set(self, limits: Limits) -> None:
        """Start over under new limits; open requests stay counted."""
        self.limits = limits
        self.requests = Rate(limits.requests_per_minute) if limits.requests_per_minute else None
        self.tokens = Rate(limits.tokens_per_minute) if limits.tokens_per_minute else None

    def admit(self, tokens: int, at: float) -> None:
        """Count a request in, reserving ``tokens``. Raises ``LimitReached`` and then counts nothing."""
        limit = self.limits.concurrent
        if limit is not None and self.open_requests >= limit:
            raise LimitReached(
                f"{limit} requests of this key are open, its limit; wait for one to end", retry_after_s=1.0
            )
        for rate, units, name in ((self.requests, 1, "requests"), (self.tokens, tokens, "tokens")):
            if rate is not None and (wait_s := rate.wait_s(units, at)):
                raise LimitReached(
                    f"this key's limit of {rate.per_minute} {name} per minute is reached; it has room again in "
                    f"{wait_s:.1f} s",
                    retry_after_s=wait_s,
                )
        self.open_requests += 1
        if self.requests is not None:
            self.requests.take(1, at)
        if self.tokens is not None:
            self.tokens.take(tokens, at)

    def settle(self, reserved: int, used: int, at: float) -> None:
        """Count a request out, correcting the tokens reserved to those used."""
        assert self.open_requests > 0
        self.open_requests -= 1
        if self.tokens is not None:
            self.tokens.take(used - reserved, at)


def tokens_to_reserve(asked: Arrived) -> int:
    """The tokens a request will probably take: its prompt by length, its answer by what it allows."""
    return asked.prompt_bytes // BYTES_PER_TOKEN_USUAL + 1 + (asked.max_tokens or 0) * asked.strands
