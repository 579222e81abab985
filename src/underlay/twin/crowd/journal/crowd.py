"""The callers of a journal: everybody calls again when they called, and asks for as much.

Times are those of the journal, whatever the platform does with the calls: nobody waits for an answer before the
next question, as nobody can know what they would have done. Whoever left before a first token waits as long again.
Whoever left in the middle of an answer is content with what there was of it, so the engines do the same work.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from math import ceil, floor, inf
from pathlib import Path
from random import Random
from typing import NamedTuple

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.call import Call
from underlay.twin.crowd.links import mix, start_of
from underlay.twin.crowd.section import CrowdSection, demand
from underlay.twin.crowd.trace_formats import BLOCK_TOKENS

from .calls import RecordedCall, calls_in
from .prompts import Linker
from .survey import MODELLED, Survey, survey

_MINUTE_S = 60.0
_WHOLE = float(1 << 63)
#: Calls that are made once more come up to so much later, and no later than that part of the journal.
_LATER_S, _LATER_SHARE = 60.0, 0.1


class Origin(NamedTuple):
    """What a call was made of: the recorded one, and which of its copies it is (0: the call itself)."""

    call: RecordedCall
    copy: int


class Journal(CrowdSection, frozen=True):
    """The calls of the journal at ``path`` between ``start_s`` and ``stop_s``, from ``at_s`` of the run on.

    Its time begins with its first call. ``times`` is how often each call is made (1.5: half of them twice), copies
    somewhat later, with prompts that nobody else's begin like, conversations whole. ``model`` is asked in place of
    any that ``models`` (none: all are known) does not hold. ``link_tokens`` is what one link of a prompt stands
    for; it must be the engines' own. ``Call.more`` is its ``Origin``.
    """

    path: Path
    start_s: float = 0.0
    stop_s: float = inf
    at_s: float = 0.0
    times: float = 1.0
    model: str = ""
    models: tuple[str, ...] = ()
    region: str = ""
    link_tokens: int = BLOCK_TOKENS

    def __post_init__(self) -> None:
        demand(0 <= self.start_s < self.stop_s, "start_s must be from 0 and below stop_s.")
        demand(0 <= self.at_s < inf, "at_s must be a number from 0.")
        demand(0 < self.times < inf, "times must be above 0.")
        demand(self.link_tokens >= 1, "link_tokens must be at least 1.")

    def calls(self, dice: Random) -> Iterator[Call]:
        """Its calls, in order. Errors: BadRequest, when a broken frame is met (see ``check``)."""
        return self._calls(_Making(self, dice.getrandbits(63)))

    def check(self) -> None:
        """Read all of the journal once. Errors: BadRequest."""
        whole = survey(self.path)
        if not whole.between(self.start_s, self.stop_s):
            said = (
                f"nobody called from {self.start_s:g} to {self.stop_s:g} s; the last call is at {whole.last_s:g} s."
            )
            raise BadRequest(f"{self.path}: {said}", param="start_s")

    def rate_per_s(self, at: float) -> float:
        """Calls a second around that time, over a minute."""
        whole = survey(self.path)
        middle_s = at - self.at_s + self.start_s
        begin_s = floor(max(self.start_s, middle_s - _MINUTE_S / 2))
        end_s = ceil(min(self.stop_s, whole.last_s, middle_s + _MINUTE_S / 2))
        return whole.between(begin_s, end_s) * self.times / (end_s - begin_s) if end_s > begin_s else 0.0

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many of its calls, with replacement."""
        made = list(self.calls(Random(0)))  # noqa: S311 -- all of them, whatever the dice
        return dice.choices(made, k=count) if made else []

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call; which band they asked for is on their calls."""
        return dict.fromkeys(["", *survey(self.path).whose.values()], "")

    def warnings(self) -> tuple[str, ...]:
        """What had to be taken as usual."""
        return tuple(_said(survey(self.path)))

    def _calls(self, making: _Making) -> Iterator[Call]:
        waiting: list[tuple[float, int, Call]] = []
        count = 0
        for call in calls_in(self.path):
            since_s = call.arrived.at - making.whole.begin_at
            if since_s >= self.stop_s:
                break
            if since_s < self.start_s or call.arrived.operation not in MODELLED or call.outcome == "repeated":
                continue
            for made in making.made(call, self.at_s + since_s - self.start_s):
                count += 1
                heappush(waiting, (made.at, count, made))
            while waiting and waiting[0][0] <= self.at_s + since_s - self.start_s:
                yield heappop(waiting)[2]
        while waiting:
            yield heappop(waiting)[2]


class _Making:
    """Makes calls of what was recorded."""

    __slots__ = ("_crowd", "_later_s", "_linkers", "_salt", "whole")

    def __init__(self, crowd: Journal, seed: int) -> None:
        self.whole = survey(crowd.path)
        self._crowd = crowd
        self._salt = mix(seed, start_of("journal"))
        self._later_s = min(_LATER_S, _LATER_SHARE * self.whole.last_s)
        self._linkers = {
            name: Linker(name, seen.words(), crowd.link_tokens) for name, seen in self.whole.models.items()
        }

    def made(self, call: RecordedCall, at: float) -> Iterator[Call]:
        """The call as often as it is to be made."""
        for copy in range(ceil(self._crowd.times)):
            whose = call.arrived.session or -1 - call.number
            lot = mix(mix(self._salt, copy), whose) / _WHOLE
            if lot < self._crowd.times - copy:
                later_s = self._later_s * mix(mix(self._salt, ~copy), whose) / _WHOLE if copy else 0.0
                yield self._call(call, at + later_s, copy)

    def _call(self, call: RecordedCall, at: float, copy: int) -> Call:
        arrived, crowd = call.arrived, self._crowd
        seen = self.whole.models[arrived.model]
        prompt_tokens = call.usage.prompt_tokens or seen.words().tokens(arrived.prompt_bytes)
        tenant = self.whole.whose.get(call.key_id, "")
        known = not crowd.models or arrived.model in crowd.models
        linker = self._linkers[arrived.model]
        return Call(
            at,
            prompt_tokens,
            output_tokens(call, seen.answer_tokens()),
            model=arrived.model if known else crowd.model,
            tenant=tenant,
            region=crowd.region,
            links=linker.links(arrived.blocks, prompt_tokens, tenant, copy) if arrived.blocks else (),
            session=mix(arrived.session, copy) if copy and arrived.session else arrived.session,
            band=arrived.band,
            deadline_s=call.ended_at - arrived.at if call.outcome == "left" and call.first_at is None else None,
            more=Origin(call, copy),
        )


def output_tokens(call: RecordedCall, usual: int) -> int:
    """How long the answer of each strand is, or would have been: the ``usual`` where nobody knows."""
    produced = ceil(call.usage.completion_tokens / call.arrived.strands)
    if call.outcome == "finished" or (call.outcome == "left" and call.first_at is not None):
        return max(1, produced)
    most = call.arrived.max_tokens
    return max(1, produced, usual if most is None else min(usual, most))


def _said(whole: Survey) -> Iterator[str]:
    unknown = sum(whole.outcomes[name] for name in ("refused", "failed", "open"))
    if unknown:
        yield (
            f"{unknown:,} of {whole.count:,} recorded calls were refused, failed or still open: how long their"
            " answers would have been is taken as the mean of finished ones (assumed)."
        )
    if whole.outcomes["left"]:
        yield (
            f"{whole.outcomes['left']:,} recorded callers left: those with part of an answer are content with it,"
            " the others leave again after the same time without a token."
        )
    if whole.strands:
        yield (
            f"{whole.strands:,} recorded calls asked for several answers at once; one is modelled, of mean length."
        )
    if whole.unmodelled:
        yield (
            f"{whole.unmodelled:,} recorded requests are left out: token counts, embeddings, and repeats that were"
            " answered without an engine."
        )
