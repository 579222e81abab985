"""Calls that were recorded once, made again: as they were, quicker, fewer, longer, or several times over.

A trace is read while the run goes on, so it may be longer than memory. Nothing is made up: what the file does not
say (tenants, prefixes, sessions) stays empty, unless tenants or regions are named here to share the calls.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from math import ceil, floor, inf
from random import Random

from underlay.domain.errors import BadRequest

from . import tenants as who
from . import trace_files
from .call import Call
from .links import chain, mix, start_of
from .section import CrowdSection, demand
from .surveys import Survey, survey
from .tenants import Mix, Region, Tenant
from .trace_formats import BLOCK_TOKENS, Recorded, TraceError

#: Over how long a rate is taken.
_MINUTE_S = 60.0
#: The shortest that a trace is taken to last, if all its calls come at once.
_TICK_S = 1.0
_WHOLE = float(1 << 63)


class Trace(CrowdSection, frozen=True):
    """The calls of a trace between ``start_s`` and ``stop_s`` of its own time, from ``at_s`` of the run on.

    ``trace`` is a shipped name or a path. Its time passes ``speed`` times as fast, or so that
    ``mean_rate_per_s`` comes out; of its calls that ``share`` is made, conversations whole. It is done ``repeat``
    times, each with prompts that share nothing with those of the times before. Tokens are multiplied by the
    scales; a shorter prompt keeps the links of its beginning, and of a longer one the end is nobody else's.
    ``link_tokens`` is what one link stands for, a whole part of the 512 tokens that traces know; it must be the
    engines' own.

    ``tenants`` take the place of the trace's own, ``regions`` are for calls that have none of their own; both by
    lot, a conversation staying with one of each. Tenants share no prefixes: where a trace has prefixes and no
    tenants, naming some means fewer hits.
    """

    trace: str
    speed: float | None = None
    mean_rate_per_s: float | None = None
    share: float = 1.0
    start_s: float = 0.0
    stop_s: float = inf
    at_s: float = 0.0
    repeat: int = 1
    prompt_scale: float = 1.0
    output_scale: float = 1.0
    tenants: tuple[Tenant, ...] = ()
    regions: tuple[Region, ...] = ()
    model: str = ""
    link_tokens: int = BLOCK_TOKENS

    def __post_init__(self) -> None:
        demand(self.speed is None or self.mean_rate_per_s is None, "speed or mean_rate_per_s, not both.")
        demand(self.speed is None or 0 < self.speed < inf, "speed must be above 0.")
        demand(self.mean_rate_per_s is None or 0 < self.mean_rate_per_s < inf, "mean_rate_per_s must be above 0.")
        demand(0 < self.share <= 1, "share must be above 0 and at most 1.")
        demand(0 <= self.start_s < self.stop_s, "start_s must be from 0 and below stop_s.")
        demand(0 <= self.at_s < inf, "at_s must be a number from 0.")
        demand(self.repeat >= 1, "repeat must be at least 1.")
        demand(min(self.prompt_scale, self.output_scale) > 0, "scales must be above 0.")
        demand(not any(tenant.prefix_tokens for tenant in self.tenants), "A trace knows no prefix_tokens.")
        demand(
            self.link_tokens >= 1 and BLOCK_TOKENS % self.link_tokens == 0,
            f"link_tokens must be a whole part of {BLOCK_TOKENS}: that is what traces know of prefixes.",
        )
        who.distinct(self.tenants)

    def calls(self, dice: Random) -> Iterator[Call]:
        """Its calls, in order. Errors: BadRequest; TraceError, when a broken line is met (see ``check``)."""
        return self._calls(_Making(self, dice))

    def check(self) -> None:
        """Read all of the trace once. Errors: BadRequest, TraceError."""
        whole = self._survey()
        if not whole.between(self.start_s, self.stop_s):
            raise BadRequest(
                f"{self.trace} has no calls from {self.start_s:g} to {self.stop_s:g} s; "
                f"its last is at {whole.last_s:g} s.",
                param="start_s",
            )
        known = [region.name for region in self.regions]
        strange = [name for name in whole.regions if known and name not in known]
        if strange:
            raise TraceError(whole.path, 0, 0, f"has calls from {strange[0]!r}; expected {', '.join(known)}.")

    def models(self) -> tuple[str, ...]:
        """The models that its calls name themselves."""
        return tuple(self._survey().models)

    def rate_per_s(self, at: float) -> float:
        """Calls a second around that time, over a minute of the run."""
        speed, period_s = self._speed(), self._period_s()
        lap, since_s = divmod((at - self.at_s) * speed, period_s)
        if not 0 <= lap < self.repeat:
            return 0.0
        half_s = max(1.0, _MINUTE_S / 2 * speed)
        middle_s = self.start_s + since_s
        begin_s = floor(max(self.start_s, middle_s - half_s))
        end_s = ceil(min(self.start_s + period_s, middle_s + half_s))
        return self._survey().between(begin_s, end_s) * self.share * speed / max(1, end_s - begin_s)

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many of its calls, with replacement."""
        making = _Making(self, dice)
        kept = self._survey().kept
        kept = [row for row in kept if self.start_s <= row.at_s < self.stop_s]
        chosen = dice.choices(kept, k=count) if kept else []
        return [making.call(row, 0.0, 0, number) for number, row in enumerate(chosen)]

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call, and the band of each."""
        return who.bands(self.tenants) if self.tenants else dict(self._survey().tenants)

    def _calls(self, making: _Making) -> Iterator[Call]:
        path, speed = trace_files.locate(self.trace), self._speed()
        for lap in range(self.repeat):
            begin_s = self.at_s + (lap * self._period_s() / speed if lap else 0.0)
            for number, row in enumerate(trace_files.read(path)):
                if row.at_s >= self.stop_s:
                    break
                if row.at_s >= self.start_s and making.wants(row, lap, number):
                    yield making.call(row, begin_s + (row.at_s - self.start_s) / speed, lap, number)

    def _speed(self) -> float:
        """How many of its own seconds the trace passes in one of the run."""
        if self.mean_rate_per_s is None:
            return 1.0 if self.speed is None else self.speed
        count = self._survey().between(self.start_s, self.stop_s)
        return self.mean_rate_per_s * self._period_s() / (max(1, count) * self.share)

    def _period_s(self) -> float:
        """How long it lasts, in its own time: to ``stop_s``, or to its last call and a gap like its others."""
        whole = self._survey()
        if self.stop_s <= whole.last_s:
            return self.stop_s - self.start_s
        count = whole.between(self.start_s, self.stop_s)
        last_s = max(whole.last_s - self.start_s, 0.0)
        return max(last_s + last_s / max(1, count - 1), _TICK_S)

    def _survey(self) -> Survey:
        return survey(trace_files.locate(self.trace))


class _Making:
    """Makes calls of lines: settles by lot who makes each, from where, and whether it is made."""

    __slots__ = ("_bounds", "_mix", "_salts", "_starts", "_trace")

    def __init__(self, trace: Trace, dice: Random) -> None:
        self._trace = trace
        seed = dice.getrandbits(63)
        self._salts = {what: mix(seed, start_of(what)) for what in ("share", "tenant", "region")}
        self._mix = Mix(trace.tenants, trace.model, BLOCK_TOKENS) if trace.tenants else None
        self._bounds = who.bounds([region.weight for region in trace.regions])
        self._starts: dict[tuple[str, int], int] = {}

    def wants(self, row: Recorded, lap: int, number: int) -> bool:
        """Is this line among those to be made?"""
        return self._trace.share == 1 or self._lot("share", row, lap, number) < self._trace.share

    def call(self, row: Recorded, at: float, lap: int, number: int) -> Call:
        """The call of a line."""
        _, prompt_tokens, output_tokens, blocks, tenant, session, region, model, band = row
        trace, deadline_s = self._trace, None
        if self._mix is not None:
            caller = self._mix.at(self._lot("tenant", row, lap, number))
            tenant, band, model, deadline_s = caller.tenant, caller.band, model or caller.model, caller.deadline_s
        if trace.regions and not region:
            lot = self._lot("region", row, lap, number)
            region = trace.regions[bisect_right(self._bounds, lot, hi=len(self._bounds) - 1)].name
        prompt_tokens = max(1, round(prompt_tokens * trace.prompt_scale))
        return Call(
            at,
            prompt_tokens,
            max(1, round(output_tokens * trace.output_scale)),
            model=model or trace.model,
            tenant=tenant,
            region=region,
            links=self._links(blocks[: prompt_tokens // BLOCK_TOKENS], tenant, lap) if blocks else (),
            session=mix(session, lap) if session and lap else session,
            band=band,
            deadline_s=deadline_s,
        )

    def _links(self, blocks: tuple[int, ...], tenant: str, lap: int) -> tuple[int, ...]:
        start = self._starts.get((tenant, lap))
        if start is None:
            start = self._starts[tenant, lap] = mix(start_of("trace", tenant), lap)
        parts = BLOCK_TOKENS // self._trace.link_tokens
        return chain(start, blocks if parts == 1 else [block + part for block in blocks for part in range(parts)])

    def _lot(self, what: str, row: Recorded, lap: int, number: int) -> float:
        """A lot between 0 and 1: that of its conversation, or its own."""
        return mix(mix(self._salts[what], lap), row.session or -1 - number) / _WHOLE
