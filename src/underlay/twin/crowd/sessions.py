"""Conversations: each prompt is all that was said before and a new question, some time after the answer.

A closed loop: a slow platform is asked its later turns later, one that refuses is not asked them at all. What
everybody will say is drawn when a conversation begins, so it is the same whatever the platform does, and two
policies can be compared on the very same conversations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from random import Random

import numpy as np
from msgspec.structs import replace

from . import tenants as who
from .arrivals import Arrivals
from .call import Call, Outcome
from .links import after, start_of
from .merge import Merged
from .section import CrowdSection, demand, generators
from .spreads import Spread, whole
from .tenants import Caller, Mix, Region, Tenant
from .trace_formats import BLOCK_TOKENS

#: Conversations from which the mean number of turns is taken.
_SURVEYED = 4096


class Sessions(CrowdSection, frozen=True):
    """Conversations that begin by ``arrivals``.

    Each has as many ``turns``, each turn a ``question`` and an ``answer`` (tokens), and ``think_s`` from the end
    of an answer to the next question. The tenant's ``prefix_tokens`` come before everything and are shared by all
    of its conversations. A conversation ends before a turn that would not fit ``context_tokens`` (0: no bound),
    and when one of its calls is not finished. ``link_tokens`` is what one link stands for; it must be the engines'.
    """

    arrivals: Arrivals
    turns: Spread
    question: Spread
    answer: Spread
    think_s: Spread
    context_tokens: int = 0
    tenants: tuple[Tenant, ...] = ()
    region: str = ""
    model: str = ""
    link_tokens: int = BLOCK_TOKENS

    follows = True

    def __post_init__(self) -> None:
        demand(self.link_tokens >= 1, "link_tokens must be at least 1.")
        demand(self.context_tokens >= 0, "context_tokens must not be below 0.")
        who.distinct(self.tenants)

    def calls(self, dice: Random) -> Iterator[Call]:
        """The first turn of each conversation, in order."""
        return self._calls(*generators(dice, 2))

    def _calls(self, for_times: np.random.Generator, throws: np.random.Generator) -> Iterator[Call]:
        for times in self.arrivals.times(for_times):
            for at, session in zip(times.tolist(), self.conversations(len(times), throws), strict=True):
                call = session.next_call(at)
                if call is not None:
                    yield call

    def follow_up(self, call: Call, outcome: Outcome, at: float, dice: Random) -> Call | None:  # noqa: ARG002
        """The next turn, once its answer has been thought about."""
        session = call.more
        if outcome != "finished" or not isinstance(session, Conversation):
            return None
        return session.next_call(at + session.think_s())

    def rate_per_s(self, at: float) -> float:
        """Calls a second at that time, as if all turns of a conversation came when it begins."""
        return self.arrivals.rate_at(at) * _mean_turns(replace(self, arrivals=Arrivals(1.0)))

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls: turns of typical conversations, one after the other."""
        (throws,) = generators(dice, 1)
        return list(islice(self._turns(throws), count))

    def _turns(self, throws: np.random.Generator) -> Iterator[Call]:
        """Turns without end, at no particular time; none if no conversation has any."""
        made = True
        while made:
            made = False
            for session in self.conversations(_SURVEYED // 16, throws):
                while (call := session.next_call(0.0)) is not None:
                    made = True
                    yield call

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call, and the band of each."""
        return who.bands(self.tenants)

    def across(self, regions: Sequence[Region]) -> Merged:
        """The same conversations shared among regions, each with its own day."""
        return Merged(
            [
                replace(self, region=region.name, arrivals=self.arrivals.part(share, region.utc_offset_h))
                for region, share in zip(regions, who.shares(regions), strict=True)
            ]
        )

    def conversations(self, count: int, throws: np.random.Generator) -> Iterator[Conversation]:
        """So many conversations, not begun yet."""
        turns = whole(self.turns.draw(count, throws))
        total = int(turns.sum())
        questions = whole(self.question.draw(total, throws)).tolist()
        answers = whole(self.answer.draw(total, throws)).tolist()
        thinks_s = self.think_s.draw(total, throws).tolist()
        numbers = throws.integers(1, 1 << 63, count).tolist()
        callers = Mix(self.tenants, self.model, self.link_tokens).draw(count, throws)
        begin = 0
        for number, caller, end in zip(numbers, callers, np.cumsum(turns).tolist(), strict=True):
            part = slice(begin, end)
            yield Conversation(self, number, caller, questions[part], answers[part], thinks_s[part])
            begin = end


class Conversation:
    """A conversation under way. ``context`` tokens were said, system prompt included; ``links`` stand for them."""

    __slots__ = ("answers", "caller", "context", "crowd", "links", "number", "questions", "thinks_s", "turn")

    def __init__(
        self,
        crowd: Sessions,
        number: int,
        caller: Caller,
        questions: list[int],
        answers: list[int],
        thinks_s: list[float],
    ) -> None:
        self.crowd = crowd
        self.number = number
        self.caller = caller
        self.questions = questions
        self.answers = answers
        self.thinks_s = thinks_s
        self.turn = 0
        self.context = caller.prefix_tokens
        self.links = caller.links

    def think_s(self) -> float:
        """How long the last answer is thought about."""
        return self.thinks_s[self.turn - 1]

    def next_call(self, at: float) -> Call | None:
        """The next turn, or nothing if there is none or it would not fit."""
        turn, crowd, caller = self.turn, self.crowd, self.caller
        if turn == len(self.questions):
            return None
        prompt_tokens = self.context + self.questions[turn]
        context = prompt_tokens + self.answers[turn]
        if crowd.context_tokens and context > crowd.context_tokens:
            self.turn = len(self.questions)
            return None
        self.turn, self.context = turn + 1, context
        self._link(context // crowd.link_tokens)
        return Call(
            at,
            prompt_tokens,
            self.answers[turn],
            model=caller.model,
            tenant=caller.tenant,
            region=crowd.region,
            links=self.links,
            session=self.number,
            band=caller.band,
            deadline_s=caller.deadline_s,
            turn=turn + 1,
            more=self,
        )

    def _link(self, upto: int) -> None:
        """Make links for whole blocks of what was said, the answer to come included."""
        if upto > len(self.links):
            links = list(self.links)
            link = links[-1] if links else start_of("conversation")
            links += [link := after(link, self.number) for _ in range(upto - len(links))]
            self.links = tuple(links)


@lru_cache(maxsize=64)
def _mean_turns(crowd: Sessions) -> float:
    """How many turns a conversation has on average, those that do not fit left out: seen from a sample."""
    (throws,) = generators(Random(0), 1)  # noqa: S311 -- it must repeat
    made = 0
    for session in crowd.conversations(_SURVEYED, throws):
        while session.next_call(0.0) is not None:
            made += 1
    return made / _SURVEYED
