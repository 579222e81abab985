"""Journals for tests: a modelled platform that writes down what its desk is told, as the live one does.

So what became of every call is known to the last token, and what the twin makes of the journal can be held against
the engines that it was recorded on.
"""

from __future__ import annotations

from math import floor
from pathlib import Path
from random import Random
from typing import Any

from tests.support.replacing import replace

from underlay.control import journal
from underlay.control.journal import Entry, Header
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.physics.step_time import Curve, StepCoefficients
from underlay.twin.crowd.call import Call
from underlay.twin.crowd.links import chain
from underlay.twin.engine import SlotRules
from underlay.twin.kernel import Kernel
from underlay.twin.modelled import Modelled
from underlay.twin.platform import Platform

#: A small machine: 20 ms for a step, 5 ms more for each sequence, 1 ms for each token of a prompt.
TIMES = StepCoefficients(
    decode=Curve((1,), (0.001,)), mixed=Curve((1,), (0.001,)), decode_fixed_s=0.019, decode_sequence_s=0.005,
    decode_kv_token_s=2e-6, prefill_fixed_s=0.004, prefill_token_s=0.001, prefill_pair_s=0.0,
)  # fmt: skip
CONTEXT_TOKENS, SLOTS = 2048, 4
BLOCK_TOKENS = 32  # 128 bytes
#: When the first call comes: live journals count in Unix seconds. The platform runs half a minute longer.
STARTED_S = 1_000_000.0


class Recorder:
    """A platform at work, and its journal."""

    def __init__(self, replicas: int = 2, **settings: Any) -> None:
        policy = ModelPolicy("m", context_tokens=CONTEXT_TOKENS)
        self.settings = DeskSettings(models=(policy,), **settings)
        self.kernel = Kernel(3)
        self.entries: list[Entry] = []
        self.platform = Platform(self.kernel, self.settings, {}, self._ended, link_tokens=BLOCK_TOKENS)
        self._handle = self.platform.desk.handle
        replace(self.platform.desk, "handle", self._write_down)
        self.answers: dict[str, float] = {}
        self.ended: list[tuple[Call, str, float]] = []
        rules = SlotRules(slots=SLOTS, slot_tokens=CONTEXT_TOKENS, step_tokens=512, link_tokens=BLOCK_TOKENS)
        for number in range(replicas):
            self.platform.add(Modelled(f"m/{number}", "m", rules, TIMES, None, number))
            self.kernel.call(STARTED_S - 30.0, self._start, f"m/{number}")

    def _start(self, at: float, name: str) -> None:
        self.platform.start(at, name)

    def _write_down(self, event: Any) -> Any:
        effects = list(self._handle(event))
        self.entries.append(Entry(event, effects))
        return effects

    def _ended(self, platform: Platform, exchange: Any, outcome: str, at: float) -> None:
        self.ended.append((exchange.call, outcome, at))

    def call(self, at: float, prompt: int = 100, output: int = 20, **more: Any) -> None:
        """Have somebody call, ``at`` seconds after the first call."""
        links = more.pop("links", None)
        if links is None:
            links = chain(floor(at * 1e6) + 7, range(prompt // BLOCK_TOKENS))
        call = Call(STARTED_S + at, prompt, output, model="m", links=links, **{"tenant": "team", **more})
        self.kernel.call(call.at, self._arrive, call)

    def _arrive(self, at: float, call: Call) -> None:
        self.platform.arrive(at, call, None)

    def later(self, at: float, verb: Any, *args: Any) -> None:
        """Have something happen."""
        self.kernel.call(STARTED_S + at, lambda now, _: verb(now, *args))

    def leave(self, at: float, number: int) -> None:
        """Have the caller of that exchange (by its order among those that are open then) go away."""
        self.kernel.call(
            STARTED_S + at, lambda now, _: self.platform.leave(now, list(self.platform.open.values())[number])
        )

    def crowd(self, count: int = 60, rate_per_s: float = 2.0, seed: int = 5) -> None:
        """Have many call, each for something else."""
        dice, at = Random(seed), 0.0
        for _ in range(count):
            self.call(at, dice.randint(20, 400), dice.randint(5, 60))
            at += dice.expovariate(rate_per_s)

    def write(self, path: Path, upto_s: float | None = None) -> Path:
        """Let everything happen, and write the journal."""
        if upto_s is None:
            self.kernel.run()
        else:
            self.kernel.run(STARTED_S + upto_s)
        header = Header(journal.FORMAT, "0.1.0", STARTED_S - 31.0, self.settings)
        path.write_bytes(b"".join(map(journal.encode, [header, *self.entries])))
        return path
