"""How long did the engines take for what, as far as a journal tells?

The desk hears of an engine when it gives it a request, at the first token and at the last one. From that follow,
for each request: how long its prompt took, and how long its tokens took while how many others decoded beside it
and how many tokens of others' prompts came in between. The parts of single steps nobody hears of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from underlay.control.effects import Cancel, Close, Dispatch
from underlay.control.events import AttemptFailed, Finished, FirstToken, Progress, ReplicaLost
from underlay.control.journal import Entry

#: Measurements kept of each model: every second is dropped when there are more, so that they spread over all time.
_KEPT = 4096
#: Fewer steps than that say more of the moment than of the engine.
_STEPS_MIN = 4


class PromptTime(NamedTuple):
    """A prompt: its tokens that were computed, those found in a cache, and how long that took.

    ``beside_s`` is what the request took to its first token besides, where the engine itself said how long it
    took; None where it did not, and then it is in ``took_s``. ``crowded`` says how many requests were on the
    replica.
    """

    tokens: int
    cached_tokens: int
    took_s: float
    beside_s: float | None
    crowded: int


class DecodeTime(NamedTuple):
    """Steps of one answer: how many, and how long together.

    ``sequences`` and ``kv_tokens`` are what was in them on average, ``prompts`` (with so many ``prompt_tokens``)
    what was computed for others meanwhile.
    """

    steps: int
    took_s: float
    sequences: float
    kv_tokens: float
    prompts: int
    prompt_tokens: int


_Measured = TypeVar("_Measured")


class Sample(Generic[_Measured]):
    """Some thousands of all there were, spread evenly."""

    __slots__ = ("_count", "_every", "kept")

    def __init__(self) -> None:
        self.kept: list[_Measured] = []
        self._count = 0
        self._every = 1

    def add(self, one: _Measured) -> None:
        """Keep it, if it is its turn."""
        if self._count % self._every == 0:
            self.kept.append(one)
            if len(self.kept) == _KEPT:
                self.kept = self.kept[::2]
                self._every *= 2
        self._count += 1


class Times:
    """What was measured of one model."""

    __slots__ = ("decodes", "prompts")

    def __init__(self) -> None:
        self.prompts: Sample[PromptTime] = Sample()
        self.decodes: Sample[DecodeTime] = Sample()


class _Replica:
    """What runs on a replica, and what that came to by ``at``: sequences and their tokens in seconds, prompts."""

    __slots__ = ("at", "decoding", "kv_tokens", "prefilling", "prompt_tokens", "prompts", "sequence_s", "token_s")

    def __init__(self) -> None:
        self.at = self.sequence_s = self.token_s = 0.0
        self.decoding = self.kv_tokens = self.prefilling = self.prompts = self.prompt_tokens = 0

    def move_to(self, at: float) -> None:
        """Add up what ran until then."""
        self.sequence_s += self.decoding * (at - self.at)
        self.token_s += self.kv_tokens * (at - self.at)
        self.at = at


class _Attempt:
    """One request on one replica."""

    __slots__ = (
        "before",
        "crowded",
        "first_at",
        "kv_tokens",
        "model",
        "number",
        "prompt_tokens",
        "replica",
        "since",
    )

    def __init__(self, replica: _Replica, model: str, number: int, since: float) -> None:
        self.replica = replica
        self.model = model
        self.number = number
        self.since = since
        self.crowded = replica.prefilling + replica.decoding
        self.first_at: float | None = None
        self.kv_tokens = self.prompt_tokens = 0
        self.before = (0.0, 0.0, 0, 0)


class Loads:
    """Measurements by model, gathered entry by entry."""

    def __init__(self) -> None:
        self.times: dict[str, Times] = {}
        self._replicas: dict[str, _Replica] = {}
        self._attempts: dict[str, list[_Attempt]] = {}  # by ticket

    def take(self, entry: Entry, asked: Mapping[str, str]) -> None:
        """Take in what happened; ``asked`` is the model of each open request."""
        event = entry.event
        match event:
            case FirstToken():
                self._first_token(event)
            case Progress():
                self._progress(event)
            case Finished():
                self._finished(event)
            case AttemptFailed():
                self._leave(event.ticket, event.attempt, event.at)
            case ReplicaLost():
                self._replicas.pop(event.replica, None)
        for effect in entry.effects:
            if isinstance(effect, Dispatch):
                self._dispatched(effect, asked.get(effect.ticket, ""), event.at)
            elif isinstance(effect, Cancel):
                self._leave(effect.ticket, effect.attempt, event.at)
            elif isinstance(effect, Close):
                self._leave(effect.ticket, None, event.at)

    def _dispatched(self, effect: Dispatch, model: str, at: float) -> None:
        replica = self._replicas.get(effect.replica)
        if replica is None:
            replica = self._replicas[effect.replica] = _Replica()
        replica.move_to(at)
        attempt = _Attempt(replica, model, effect.attempt, at)
        replica.prefilling += 1
        self._attempts.setdefault(effect.ticket, []).append(attempt)

    def _first_token(self, event: FirstToken) -> None:
        for attempt in self._attempts.get(event.ticket, ()):
            if attempt.number != event.attempt or attempt.first_at is not None:
                continue
            replica = attempt.replica
            replica.move_to(event.at)
            replica.prefilling -= 1
            replica.decoding += 1
            replica.prompts += 1
            replica.prompt_tokens += max(0, event.prompt_tokens - event.cached_tokens)
            replica.kv_tokens += event.prompt_tokens
            attempt.first_at = event.at
            attempt.kv_tokens = attempt.prompt_tokens = event.prompt_tokens
            attempt.before = (replica.sequence_s, replica.token_s, replica.prompts, replica.prompt_tokens)

    def _progress(self, event: Progress) -> None:
        running = self._attempts.get(event.ticket, ())
        if len(running) == 1 and running[0].first_at is not None and running[0].number == 1:
            attempt = running[0]
            attempt.replica.move_to(event.at)
            grown = attempt.prompt_tokens + event.completion_tokens - attempt.kv_tokens
            attempt.replica.kv_tokens += grown
            attempt.kv_tokens += grown

    def _finished(self, event: Finished) -> None:
        running = self._attempts.get(event.ticket, ())
        if len(running) != 1 or event.attempt != 1 or running[0].first_at is None:
            return  # what a second try took over was computed twice, or not at all
        attempt, first_at = running[0], running[0].first_at
        times = self.times.setdefault(attempt.model, Times())
        attempt.replica.move_to(event.at)
        usage = event.usage
        computed = usage.prompt_tokens - usage.cached_tokens
        waited_s = first_at - attempt.since
        own_s = event.timings.prefill_ms * 1e-3
        if computed > 0:
            beside_s = max(0.0, waited_s - own_s) if own_s else None
            took_s = own_s or waited_s
            times.prompts.add(PromptTime(computed, usage.cached_tokens, took_s, beside_s, attempt.crowded))
        took_s, steps = event.at - first_at, usage.completion_tokens - 1
        if steps >= _STEPS_MIN and took_s > 0.0:
            times.decodes.add(_decoded(attempt, steps, took_s))

    def _leave(self, ticket: str, number: int | None, at: float) -> None:
        """An attempt is over, or all of a request's (None)."""
        running = self._attempts.get(ticket, [])
        for attempt in [each for each in running if number is None or each.number == number]:
            running.remove(attempt)
            replica = attempt.replica
            replica.move_to(at)
            if attempt.first_at is None:
                replica.prefilling -= 1
            else:
                replica.decoding -= 1
                replica.kv_tokens -= attempt.kv_tokens
        if not running:
            self._attempts.pop(ticket, None)


def _decoded(attempt: _Attempt, steps: int, took_s: float) -> DecodeTime:
    replica = attempt.replica
    sequence_s, token_s, prompts, tokens = attempt.before
    return DecodeTime(
        steps,
        took_s,
        (replica.sequence_s - sequence_s) / took_s,
        (replica.token_s - token_s) / took_s,
        replica.prompts - prompts,
        replica.prompt_tokens - tokens,
    )
