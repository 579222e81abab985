"""How many joules do the steps of an engine take, by what is in them? Held still under load, and metered.

A single step is too short for any meter, so a load is held: so many sequences decode for some seconds, or prompts
come one after the other, each new. What was computed meanwhile is counted as the ledger counts it live
(``ledger.steps.coarse_step``), so that the joules of a step mean the same here and there. Before everything, the
engine waits with its model loaded and is asked nothing: that is idle power. Loads take turns, to and fro.

Refused here: which meters, and what is made of it all (``power_fit``).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from underlay.domain.figures import Figure
from underlay.ledger.step_energy import Sums, sums_of
from underlay.ledger.steps import Counted, TokenCosts, coarse_step
from underlay.live.calibration.asking import Answer, Asker, Server, prompt
from underlay.live.calibration.metered import Count

#: How long a load is held. Counters are renewed every 100 ms: one renewal is a twentieth of it.
HOLD_S, QUICK_HOLD_S = 3.0, 2.0
_SHORT_TOKENS = 16
_LOOK_S = 0.005


class Load(NamedTuple):
    """So many ``sequences`` decode behind ``prompt_tokens`` each; with 0, prompts of so many come one by one.

    With neither, nothing is asked. ``held_out`` ones are for the proof.
    """

    sequences: int
    prompt_tokens: int
    held_out: bool = False


class Draw(NamedTuple):
    """A load that was held: how long, what was computed, and what the meters counted."""

    load: Load
    seconds: float
    sums: Sums
    metered: Figure

    @property
    def power_w(self) -> float:
        """Its mean watts."""
        return self.metered.value / self.seconds


IDLE = Load(0, 0)


def loads(server: Server, *, quick: bool = False) -> tuple[Load, ...]:
    """Which loads: nothing, the least batch and the greatest, some between them for the proof, prompts."""
    slots, room = server.slots, server.context_tokens - 64
    between = {slots // 2} if quick else {slots // 4, slots // 2, slots * 3 // 4}
    batches = sorted({1, slots} | {count for count in between if 1 < count < slots})
    long = min(max(_SHORT_TOKENS, room // 2), 1024)
    most = server.step_tokens // 2 if quick else server.step_tokens
    alone = sorted({min(tokens, room) for tokens in (most // 4, most)})
    return tuple(
        dict.fromkeys(
            [
                IDLE,
                *(Load(count, min(_SHORT_TOKENS, room), held_out=1 < count < slots) for count in batches),
                Load(slots, long),
                *(Load(0, tokens) for tokens in alone),
                Load(0, min(most // 2, room), held_out=True),
            ]
        )
    )


class Power:
    """Holds loads at one server and has them metered by ``count``; ``draws`` are what came of it."""

    def __init__(self, server: Server, costs: TokenCosts, count: Count, dice: random.Random) -> None:
        self._server = server
        self._costs = costs
        self._count = count
        self._dice = dice
        self._asker = Asker(server)
        self.draws: list[Draw] = []

    async def run(
        self,
        loads: Sequence[Load],
        seconds: float,
        hold_s: float,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Hold all loads, and again until the time is over. Raises ``CalibrationFailed``."""
        began_s, rounds = time.monotonic(), 0
        try:
            while not rounds or (time.monotonic() - began_s) * (1 + 1 / rounds) <= seconds:
                for load in loads[::-1] if rounds % 2 else loads:
                    await self._hold(load, hold_s)
                    progress(min(1.0, (time.monotonic() - began_s) / seconds))
                rounds += 1
            progress(1.0)
        finally:
            self._asker.close()

    async def _hold(self, load: Load, hold_s: float) -> None:
        """Hold a load once; a window that the meters have lost is left out."""
        if load == IDLE:
            await asyncio.sleep(hold_s / 4)  # counters lag: the load before is not to be in it
            begin_s = time.monotonic()
            await asyncio.sleep(hold_s)
            await self._note(load, begin_s, time.monotonic(), [])
            return
        answers: list[list[Answer]] = [[] for _ in range(max(1, load.sequences))]
        asking = [asyncio.create_task(self._keep_asking(load, slot, into)) for slot, into in enumerate(answers)]
        try:
            begin_s = await self._until_all_began(asking, answers)
            await asyncio.wait(asking, timeout=hold_s, return_when=asyncio.FIRST_COMPLETED)
            # A slow engine may have read no whole prompt in that time.
            await self._until(
                lambda: load.sequences or sum(bool(answer.tokens) for answer in answers[0]) > 1, asking
            )
            end_s = time.monotonic() if load.sequences else _last_token_s(answers)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        await self._note(load, begin_s, end_s, [answer for each in answers for answer in each])

    async def _keep_asking(self, load: Load, slot: int, into: list[Answer]) -> None:
        room = max(1, self._server.context_tokens - load.prompt_tokens - 32)
        while True:
            answer = Answer()
            into.append(answer)
            asked = prompt(load.prompt_tokens, self._dice)
            await self._asker.ask(asked, room if load.sequences else 1, slot=slot, into=answer)

    async def _until_all_began(
        self, asking: Sequence[asyncio.Task[None]], answers: Sequence[Sequence[Answer]]
    ) -> float:
        """When every sequence has had a token, or the first prompt was over."""
        await self._until(lambda: all(each and each[0].tokens for each in answers), asking)
        return _last_token_s(answers)

    async def _until(self, fulfilled: Callable[[], object], asking: Sequence[asyncio.Task[None]]) -> None:
        """Wait for it; whoever asks does so for ever, unless the engine fails."""
        while True:
            for task in asking:
                if task.done():
                    task.result()
            if fulfilled():
                return
            await asyncio.sleep(_LOOK_S)

    async def _note(self, load: Load, begin_s: float, end_s: float, answers: Sequence[Answer]) -> None:
        figure = await self._count(begin_s, end_s) if end_s > begin_s else None
        if figure is None:
            return
        sums = self.computed(answers, begin_s, end_s)
        if (sums.steps > 0.0) == (load != IDLE):
            self.draws.append(Draw(load, end_s - begin_s, sums, figure))

    def computed(self, answers: Sequence[Answer], begin_s: float, end_s: float) -> Sums:
        """What was computed in a time: prompts by the share of them that lies within, tokens as they came."""
        decoded = [counted for n, answer in enumerate(answers) if (counted := _decoded(n, answer, begin_s, end_s))]
        steps = [coarse_step(begin_s, end_s, self._costs, decoded)]
        for number, answer in enumerate(answers):
            until_s = answer.tokens[0].at_s if answer.tokens else None
            if until_s is not None and until_s > begin_s:
                read = Counted(str(number), answer.cached_tokens, answer.prompt_tokens - answer.cached_tokens, 0)
                began_s = max(answer.sent_at_s, until_s - (answer.prompt_s or until_s))
                steps.append(
                    coarse_step(began_s, until_s, self._costs, [read], chunk_tokens=self._server.step_tokens)
                )
        return sums_of([step for step in steps if step is not None], begin_s, end_s)


def _last_token_s(answers: Sequence[Sequence[Answer]]) -> float:
    """When the latest token came: what is computed after it is not known yet."""
    return max(answer.tokens[-1].at_s for each in answers for answer in each if answer.tokens)


def _decoded(number: int, answer: Answer, begin_s: float, end_s: float) -> Counted | None:
    """The tokens that came within a time, but for the first one of an answer, which its prompt made."""
    within = [token for token in answer.tokens[1:] if begin_s < token.at_s <= end_s]
    if not within:
        return None
    before = max((token.tokens for token in answer.tokens if token.at_s <= begin_s), default=1)
    return Counted(str(number), answer.prompt_tokens + before, 0, within[-1].tokens - before)
