"""What does a pool of replicas do at one load? Measured at request level: the real desk before modelled engines.

A station is a small pool under a load that rises step by step (a stair), so that each step begins where the one
before had settled. Of each step is kept what its requests saw, how many were in the pool, how busy the replicas
were and what they drew. Requests count that end within the step's second part; in its first part the pool settles.

Refused here: which loads to ask for, what lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.domain.policy import DeskSettings
from underlay.physics.power import PowerCurve
from underlay.physics.step_time import StepCoefficients
from underlay.twin.crowd.call import Call, Crowd, Outcome
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.exchange import Exchange, Stream
from underlay.twin.kernel import Kernel
from underlay.twin.modelled import Modelled
from underlay.twin.platform import Platform
from underlay.twin.records import OUTCOMES

from .demand import Kind

Floats = npt.NDArray[np.float64]

_REFUSED = OUTCOMES.index("refused")
#: Part of the time to settle in which the pool is filled.
_FILL = 0.6


@dataclass(frozen=True, slots=True)
class Pooled:
    """What replicas of a pool are: all that their surface depends on.

    ``kinds`` are who calls: each with its part of the pool's calls, and the part of its own calls that is for the
    pool's model.
    """

    model: str
    rules: PagedRules | SlotRules
    coefficients: StepCoefficients
    request_s: float
    power: PowerCurve | None
    settings: DeskSettings
    bands: tuple[tuple[str, str], ...]
    kinds: tuple[tuple[Kind, float, float], ...]
    replicas: int
    link_tokens: int


class Seen(NamedTuple):
    """What requests of one step of the stair saw, a column for each figure; times in seconds, nan where none."""

    kind: npt.NDArray[np.int64]
    tenant: npt.NDArray[np.int64]
    prompt_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    cached_tokens: npt.NDArray[np.int64]
    attempts: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int64]
    ttft_s: Floats
    e2e_s: Floats
    tpot_s: Floats


@dataclass(frozen=True, slots=True)
class Level:
    """One step of the stair; everything is of one replica in the mean.

    ``inside`` requests were in the pool (waiting at the desk included), ``decoded_per_s`` tokens after first ones
    were produced, ``busy_share`` of the time was spent computing, for which ``power_w`` were drawn (over all the
    time).
    """

    offered_per_s: float
    inside: float
    ended_per_s: float
    decoded_per_s: float
    refused_share: float
    busy_share: float
    power_w: float
    seen: Seen


class Station:
    """A small pool at request level. ``tenants`` are the names behind the numbers in what was ``seen``."""

    def __init__(self, pooled: Pooled, seed: int) -> None:
        self.pooled = pooled
        self.kernel = Kernel(seed)
        self.tenants: dict[str, int] = {}
        self.ended = 0
        self._platform = Platform(
            self.kernel,
            pooled.settings,
            dict(pooled.bands),
            self._end,
            name="station",
            link_tokens=pooled.link_tokens,
        )
        self._replicas = [
            Modelled(
                f"{place}", pooled.model, pooled.rules, pooled.coefficients, pooled.power, place, pooled.request_s
            )
            for place in range(pooled.replicas)
        ]
        for replica in self._replicas:
            self._platform.add(replica)
            self._platform.start(0.0, replica.name)
        self._step = 0
        self._open = 0
        self._area = self._counted_at = 0.0
        self._arrived = 0
        self._rows: list[tuple[Any, ...]] | None = None

    def step(self, rate_per_s: float, inside: float, settle_s: float, measure_s: float) -> Level:
        """Let so many calls a second come to each replica from now on, settle, and measure.

        A pool near what it can serve fills slowly: at first so many more come that about ``inside`` are there.
        """
        self._step += 1
        begin, replicas = self.kernel.at, self.pooled.replicas
        self._call(rate_per_s * replicas, begin, inf, "")
        more = inside * replicas - self._open
        if more > 0.0:
            self._call(more / (_FILL * settle_s), begin, begin + _FILL * settle_s, " first")
        self.kernel.run(begin + settle_s)
        self._count()
        self._area, self._arrived, self._rows = 0.0, 0, []
        before, decoded = self._drawn(), self._decoded()
        self.kernel.run(begin + settle_s + measure_s)
        self._count()
        rows, self._rows = self._rows, None
        return self._level(rows, self._drawn() - before, self._decoded() - decoded, measure_s)

    def _call(self, rate_per_s: float, begin: float, end: float, name: str) -> None:
        for place, (kind, part, own) in enumerate(self.pooled.kinds):
            draws = self.kernel.stream(f"step {self._step}{name} kind {place}")
            dice = self.kernel.stream(f"step {self._step}{name} kind {place} follow-ups")
            crowd = kind.steady(rate_per_s * part / own, begin)
            self._draw(_Caller(crowd, draws, dice, place, self._step, end))

    def _drawn(self) -> Floats:
        """Seconds computed and joules drawn by all replicas up to now."""
        used = np.array([replica.drawn(self.kernel.at) for replica in self._replicas])
        return np.asarray(used.sum(axis=0))

    def _decoded(self) -> int:
        return sum(replica.decode_tokens for replica in self._replicas)

    def _level(self, rows: list[tuple[Any, ...]], used: Floats, decoded: int, measure_s: float) -> Level:
        replicas = self.pooled.replicas * measure_s
        columns = np.array(rows, dtype=np.float64).reshape(-1, 9).T
        whole = [column.astype(np.int64) for column in columns[:7]]
        outcome, output_tokens = whole[6], whole[3]
        decode_s = columns[8] - columns[7]
        tpot_s = np.full(len(rows), nan)
        np.divide(decode_s, output_tokens - 1, out=tpot_s, where=output_tokens > 1)
        return Level(
            offered_per_s=self._arrived / replicas,
            inside=self._area / replicas,
            ended_per_s=float((outcome != _REFUSED).sum()) / replicas,
            decoded_per_s=decoded / replicas,
            refused_share=float((outcome == _REFUSED).mean()) if len(rows) else 0.0,
            busy_share=min(1.0, float(used[0]) / replicas),
            power_w=float(used[1]) / replicas,
            seen=Seen._make([*whole, columns[7], columns[8], tpot_s]),
        )

    def _draw(self, caller: _Caller) -> None:
        while (call := caller.next_call()) is not None and call.at <= caller.end:
            if call.model in {"", self.pooled.model}:
                self.kernel.call(max(call.at, self.kernel.at), self._make, (caller, call), -1)
                return

    def _make(self, at: float, what: tuple[_Caller, Call]) -> None:
        caller, call = what
        if caller.step == self._step:
            self._send(at, call, caller)
            self._draw(caller)

    def _again(self, at: float, what: tuple[_Caller, Call]) -> None:
        self._send(at, what[1], what[0])

    def _send(self, at: float, call: Call, caller: _Caller) -> None:
        call.model = self.pooled.model
        self._count()
        self._open += 1
        self._arrived += 1
        self._platform.arrive(at, call, caller)

    def _count(self) -> None:
        at = self.kernel.at
        self._area += self._open * (at - self._counted_at)
        self._counted_at = at

    def _end(self, _platform: Platform, exchange: Exchange, outcome: Outcome, at: float) -> None:
        self._count()
        self._open -= 1
        self.ended += 1
        call, caller = exchange.call, exchange.source
        assert isinstance(caller, _Caller)
        if self._rows is not None:
            first_at = exchange.first_at
            self._rows.append(
                (
                    caller.kind,
                    self.tenants.setdefault(call.tenant, len(self.tenants)),
                    call.prompt_tokens,
                    exchange.delivered,
                    exchange.cached_tokens,
                    exchange.attempts,
                    OUTCOMES.index(outcome),
                    nan if first_at is None else first_at - call.at,
                    at - call.at,
                )
            )
        if caller.crowd.follows:
            following = caller.crowd.follow_up(call, outcome, at, caller.dice)
            if following is not None:
                self.kernel.call(max(at, following.at), self._again, (caller, following))


class _Caller(Stream):
    """One kind of callers during one step of the stair, until ``end``."""

    __slots__ = ("end", "kind", "step")

    def __init__(self, crowd: Crowd, draws: Random, dice: Random, kind: int, step: int, end: float) -> None:
        super().__init__(crowd, draws, dice)
        self.kind = kind
        self.step = step
        self.end = end
