"""What to ask of an engine so that its answers tell how long its steps are.

One kind of experiment is enough: some sequences decode, and while they do, single prompts come in. Between the
prompts, the time from token to token is that of a step that only decodes; across a prompt it is that of a mixed
step; and with nobody decoding, a prompt tells its own time. Experiments are repeated in turn, not one after the
other: a machine that is busy for a while spoils some of each, and the median does without those.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from underlay.live.calibration.asking import Answer, Asker, CalibrationFailed, Prompt, Server, prompt

_WARM_TOKENS = 4
#: Two tokens of different slots in one step come that close to each other, as a part of the step.
_SAME_STEP = 0.5
_LOOK_S = 0.002


class Experiment(NamedTuple):
    """``sequences`` decode behind ``context_tokens`` each, and ``prompts`` come in one by one."""

    sequences: int
    context_tokens: int
    prompts: tuple[int, ...]
    held_out: bool


class Plan(NamedTuple):
    """All experiments of one pass, and how many steps are averaged between two prompts."""

    experiments: tuple[Experiment, ...]
    steps: int


class Sample(NamedTuple):
    """A timed step: ``sequences`` decode behind ``kv_tokens`` in all, a prompt's tokens come after cached ones.

    ``point`` names what was meant to be measured; ``held_out`` ones are for the proof.
    """

    point: tuple[int, int, int, int]
    sequences: int
    kv_tokens: float
    prompt_tokens: int
    cached_tokens: int
    step_s: float
    held_out: bool


def plan(server: Server, *, quick: bool = False) -> Plan:
    """Which batches, contexts and prompts: within what the server holds, and bounded by one of its steps."""
    step, room = server.step_tokens, server.context_tokens - 160
    batches = _batches(server.slots)
    short, middle, long = (16, min(96, room), min(256 if quick else 512, room))
    alone = (16, 64, step // 2) if quick else (16, 32, 64, 128, step // 2, step)
    alone_held = (32, 128) if quick else (24, 48, 96, 192)
    beside, beside_held = ((16, 128), (64,)) if quick else ((16, 64, 192), (32, 128))
    most = min(step - server.slots, room)

    def upto(tokens: tuple[int, ...], limit: int) -> tuple[int, ...]:
        return tuple(sorted({min(count, limit) for count in tokens}))

    def prompts(count: int, tokens: tuple[int, ...]) -> tuple[int, ...]:
        return upto(tokens, most) if count < server.slots else ()  # somebody must have a place for it

    two_steps = (step + step // 2,) if not quick and server.kind == "llamacpp" and room > 2 * step else ()
    experiments = [
        Experiment(0, 0, upto(alone, min(step, room)) + two_steps, held_out=False),
        Experiment(0, 0, upto(alone_held, min(step, room)), held_out=True),
        *(Experiment(count, short, prompts(count, beside), held_out=False) for count in batches),
        *(Experiment(count, short, prompts(count, beside_held), held_out=True) for count in batches[:-1][-1:]),
        *(Experiment(count, middle, (), held_out=True) for count in (batches[-1], batches[len(batches) // 2])),
        *(Experiment(count, long, (), held_out=False) for count in reversed(batches)),
    ]
    return Plan(tuple(dict.fromkeys(experiments)), steps=6 if quick else 10)


def _batches(slots: int) -> list[int]:
    """Every batch up to 8, then by halves more, up to all slots."""
    batches = list(range(1, min(slots, 8) + 1))
    while batches[-1] < slots:
        batches.append(min(slots, batches[-1] * 3 // 2))
    return batches


class Sweep:
    """Measures one server. ``overheads_s`` is what a request takes beside its steps, as far as the server tells."""

    def __init__(self, server: Server, plan: Plan, dice: random.Random) -> None:
        self._server = server
        self._plan = plan
        self._dice = dice
        self._asker = Asker(server)
        self._contexts: dict[int, Prompt] = {}
        self.samples: list[Sample] = []
        self.overheads_s: list[float] = []
        self.passes = 0

    async def run(self, seconds: float, progress: Callable[[float], None] = lambda _: None) -> None:
        """Repeat all experiments until the time is over; ``progress`` hears the share that is done.

        Raises ``CalibrationFailed`` if not even one pass fits.
        """
        began_s = time.monotonic()
        try:
            await self._asker.ask(prompt(16, self._dice), 4)  # what happens only once is not measured
            while not self.passes or self._another(time.monotonic() - began_s, seconds):
                for index, experiment in enumerate(self._order()):
                    spent_s = time.monotonic() - began_s
                    if spent_s > 2 * seconds and not self.passes:
                        done = index / len(self._plan.experiments)
                        raise CalibrationFailed(
                            f"after {spent_s:.0f} s only {done:.0%} of the points are there; give it more seconds"
                        )
                    progress(min(1.0, max(spent_s / seconds, 0.0)))
                    await self._measure(experiment)
                self.passes += 1
            progress(1.0)
        finally:
            self._asker.close()

    def _order(self) -> tuple[Experiment, ...]:
        """To and fro, so that a machine that slows down does not look like one that is slow at what comes last."""
        experiments = self._plan.experiments
        return experiments[::-1] if self.passes % 2 else experiments

    def _another(self, spent_s: float, seconds: float) -> bool:
        return spent_s + spent_s / self.passes <= seconds

    async def _measure(self, experiment: Experiment) -> None:
        if experiment.sequences == 0:
            for tokens in experiment.prompts:
                answer = await self._asker.ask(prompt(tokens, self._dice), 1, slot=self._last_slot)
                self._note_prompt(tokens, answer, held_out=experiment.held_out)
            return
        await self._measure_batch(experiment)

    @property
    def _last_slot(self) -> int:
        """Prompts come in at the last slot, so that they spoil no context but that of a full batch."""
        return self._server.slots - 1

    def _note_prompt(self, tokens: int, answer: Answer, *, held_out: bool) -> None:
        ttft_s = answer.ttft_s
        whole_s = ttft_s if answer.prompt_s is None else answer.prompt_s
        if answer.prompt_s is not None:
            self.overheads_s.append(ttft_s - answer.prompt_s)
        # The last piece of news is the end of the prompt, which is known better.
        parts = [part for part in answer.chunks if 0 < part[0] < answer.prompt_tokens]
        before_tokens, before_s = 0, 0.0
        for upto_tokens, upto_s in (*parts, (answer.prompt_tokens, whole_s)):
            chunk = upto_tokens - before_tokens
            point = (0, 0, tokens, before_tokens)
            self.samples.append(Sample(point, 0, 0.0, chunk, before_tokens, upto_s - before_s, held_out))
            before_tokens, before_s = upto_tokens, upto_s

    async def _measure_batch(self, experiment: Experiment) -> None:
        """Let sequences decode, send prompts in between, and read from the tokens' times what happened."""
        steps = self._plan.steps
        output_tokens = 3 * _WARM_TOKENS + (steps + 3) * (len(experiment.prompts) + 1)
        decoding = [Answer() for _ in range(experiment.sequences)]
        try:
            async with asyncio.TaskGroup() as group:
                for slot, answer in enumerate(decoding):
                    context = self._context(slot, experiment.context_tokens)
                    group.create_task(self._asker.ask(context, output_tokens, slot=slot, cached=True, into=answer))
                injected = await self._inject(experiment.prompts, decoding, output_tokens)
        except* CalibrationFailed as failures:
            why = str(failures.exceptions[0])
        else:
            self._read(experiment, decoding, injected)
            return
        raise CalibrationFailed(why)

    async def _inject(
        self, prompts: Sequence[int], decoding: Sequence[Answer], output_tokens: int
    ) -> list[tuple[int, Answer]]:
        """Send prompts, each after so many steps; those that would come after the last token are left out."""
        injected: list[tuple[int, Answer]] = []
        wanted = _WARM_TOKENS
        for tokens in prompts:
            wanted += self._plan.steps
            while min(answer.count for answer in decoding) < wanted:
                if any(answer.over for answer in decoding):
                    return injected
                await asyncio.sleep(_LOOK_S)  # far less than a step
            if max(answer.count for answer in decoding) > output_tokens - _WARM_TOKENS:
                return injected
            answer = await self._asker.ask(prompt(tokens, self._dice), 1, slot=self._last_slot)
            injected.append((tokens, answer))
            wanted = max(answer.count for answer in decoding) + 1
        return injected

    def _context(self, slot: int, tokens: int) -> Prompt:
        """What a slot decodes behind: always the same, so that its prefix cache may know it; longer ones go on."""
        known = self._contexts.get(slot, Prompt(()))
        if len(known.ids) < tokens:
            known = Prompt(known.ids + prompt(tokens - len(known.ids), self._dice).ids)
            self._contexts[slot] = known
        return Prompt(known.ids[:tokens])

    def _read(
        self, experiment: Experiment, decoding: Sequence[Answer], injected: Sequence[tuple[int, Answer]]
    ) -> None:
        """Cut the time in which everybody decoded into stretches without a prompt, and the steps with one."""
        began_s = max(answer.tokens[0].at_s for answer in decoding)
        ended_s = min(answer.tokens[-1].at_s for answer in decoding)
        for tokens, answer in injected:
            self._note_stretch(experiment, decoding, began_s, answer.sent_at_s)
            self._note_mixed(experiment, decoding, tokens, answer)
            # The step after it is the first that somebody may still be late for.
            began_s = answer.tokens[-1].at_s
        self._note_stretch(experiment, decoding, began_s, ended_s)

    def _note_stretch(
        self, experiment: Experiment, decoding: Sequence[Answer], began_s: float, ended_s: float
    ) -> None:
        """The mean step between two moments, as everybody's tokens tell it."""
        means, middles = [], []
        for answer in decoding:
            inside = [token for token in answer.tokens if began_s <= token.at_s <= ended_s]
            if len(inside) < 3:
                return
            first, last = inside[0], inside[-1]
            means.append((last.at_s - first.at_s) / (last.tokens - first.tokens))
            middles.append(answer.prompt_tokens + (first.tokens + last.tokens) / 2)
        point = (experiment.sequences, experiment.context_tokens, 0, 0)
        step_s = statistics.fmean(means)
        self.samples.append(Sample(point, experiment.sequences, sum(middles), 0, 0, step_s, experiment.held_out))

    def _note_mixed(self, experiment: Experiment, decoding: Sequence[Answer], tokens: int, answer: Answer) -> None:
        """The step that a prompt was computed in: for everybody the time between the tokens around it.

        Left out where the prompt took more than one step, or a token came without an event.
        """
        came_s = answer.tokens[0].at_s
        gaps = []
        kv_tokens = 0
        for other in decoding:
            before, after = min(pairwise(other.tokens), key=lambda two: abs(two[1].at_s - came_s))
            gap_s = after.at_s - before.at_s
            if after.tokens - before.tokens != 1 or abs(after.at_s - came_s) > _SAME_STEP * gap_s:
                return
            gaps.append(gap_s)
            kv_tokens += other.prompt_tokens + before.tokens
        if any(0 < done < answer.prompt_tokens for done, _ in answer.chunks):
            return
        point = (experiment.sequences, experiment.context_tokens, tokens, 0)
        step_s = statistics.median(gaps)
        self.samples.append(
            Sample(point, len(gaps), kv_tokens, answer.prompt_tokens, 0, step_s, experiment.held_out)
        )
