"""Rows out of flows: requests drawn by lot, each standing for as many as it was drawn from.

Of every flow (a stream's tries that were taken, refused or failed) rows are drawn evenly over its time; small
flows have a row for each request. What a row saw is drawn from what requests of its kind saw in the measured pool
with as many inside, and made longer by the line before it and by slow replicas. Way there and back are added.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from underlay.twin.callers import NO_ANSWER_S
from underlay.twin.records import COLUMNS, OUTCOMES, Requests

from .demand import Floats
from .door import NOWHERE
from .flows import Flows, Places, Run
from .surface import Surface
from .tails import Tails

#: Rows of a run, about; and of one flow at least, if it has as many requests.
ROWS = 150_000
_ROWS_MIN = 400

_FINISHED, _REFUSED, _FAILED, _OPEN = (OUTCOMES.index(name) for name in ("finished", "refused", "failed", "open"))
_Columns = dict[str, np.ndarray]


class _Part(NamedTuple):
    """A flow to draw from: of a stream's tries, those that ended in one way at the door, in each tick."""

    stream: int
    try_: int
    outcome: int
    counts: Floats


def draw(run: Run, dice: np.random.Generator) -> Requests:
    """All rows of a run, in the order of arrival, with their weights."""
    flows = run.flows()
    parts = _parts(flows)
    total = sum(float(part.counts.sum()) for part in parts)
    requests = Requests()
    if not parts:
        return requests
    draws = _Draws(run, flows, requests, dice)
    columns = [draws.rows(part, total) for part in parts]
    joined = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    order = np.argsort(joined["arrived_s"], kind="stable")
    weights = joined.pop("weight")[order]
    requests.extend({name: joined[name][order] for name in COLUMNS}, weights)
    return requests


def _parts(flows: Flows) -> list[_Part]:
    kinds = ((_FINISHED, flows.taken), (_REFUSED, flows.refused), (_FAILED, flows.failed))
    parts = [
        _Part(stream, try_, outcome, counts[:, stream, try_])
        for outcome, counts in kinds
        for stream in range(counts.shape[1])
        for try_ in range(counts.shape[2])
    ]
    return [part for part in parts if part.counts.sum() > 0.5]


class _Draws:
    """Draws the rows of one run."""

    def __init__(self, run: Run, flows: Flows, requests: Requests, dice: np.random.Generator) -> None:
        self._run = run
        self._flows = flows
        self._requests = requests
        self._dice = dice
        self._tails: dict[int, Tails] = {}
        self._times_s = (np.arange(len(flows.inside)) + 0.5) * flows.tick_s

    def rows(self, part: _Part, total: float) -> _Columns:
        """The rows of one flow."""
        sums = np.concatenate(([0.0], np.cumsum(part.counts)))
        amount = float(sums[-1])
        count = max(1, round(min(amount, max(_ROWS_MIN, ROWS * amount / total))))
        # One in each of equal parts of the flow, somewhere in it.
        drawn = (np.arange(count) + self._dice.random(count)) * amount / count
        ticks = np.minimum(np.searchsorted(sums, drawn, side="right") - 1, len(part.counts) - 1)
        within = (drawn - sums[ticks]) / np.maximum(part.counts[ticks], 1e-300)
        arrived_s = np.minimum(
            (ticks + within) * self._flows.tick_s, self._run.scenario.duration if not part.try_ else np.inf
        )
        columns = self._seen(part, arrived_s, ticks)
        columns |= {
            "arrived_s": arrived_s,
            "try_": np.full(count, min(part.try_ + 1, 127)),
            "replica": np.full(count, -1),
            "weight": np.full(count, amount / count),
        }
        return columns

    def _seen(self, part: _Part, arrived_s: Floats, ticks: Places) -> _Columns:
        """What became of the rows of a flow, pool by pool."""
        world, count = self._run.world, len(ticks)
        stream = world.demand.streams[part.stream]
        home = self._place("region", world.regions[stream.origin].name)
        model = self._place("model", world.scenario.models[stream.model].name)
        columns: _Columns = {name: np.zeros(count, dtype=np.int64) for name in COLUMNS}
        columns |= {name: np.full(count, np.nan) for name in ("ttft_s", "e2e_s", "within_s")}
        columns["region"][:], columns["model"][:] = home, model
        columns["served_in"][:] = home
        columns["outcome"][:] = part.outcome
        pools = self._flows.to[ticks, part.stream]
        for place in np.unique(pools):
            here = np.flatnonzero(pools == place)
            found = self._in_pool(part, int(place), arrived_s[here], ticks[here])
            for name, values in found.items():
                columns[name][here] = values
        return columns

    def _in_pool(self, part: _Part, place: int, arrived_s: Floats, ticks: Places) -> _Columns:
        world = self._run.world
        stream = world.demand.streams[part.stream]
        nowhere = place == NOWHERE
        surface = world.pools[next(key for key in world.pools if key[1] == stream.model)].surface
        if not nowhere:
            surface = self._run.pools[place].surface
        kinds = [kind for kind, _, _ in surface.pooled.kinds]
        kind = np.full(len(ticks), kinds.index(world.demand.kinds[stream.kind]))
        inside = np.zeros(len(ticks)) if nowhere else self._felt(place, arrived_s)
        tails = self._tails_of(surface)
        seen, ttft_rank, tpot_rank = tails.draw(kind, inside, self._dice)
        tenants = np.array([self._place("tenant", name) for name in surface.tenants])
        region = world.regions[stream.origin if nowhere else self._run.pools[place].region]
        columns: _Columns = {
            "prompt_tokens": seen.prompt_tokens,
            "tenant": tenants[seen.tenant],
            "served_in": np.full(len(ticks), self._place("region", region.name)),
        }
        way_s = 0.0 if nowhere else self._way_s(part, place)
        if part.outcome != _FINISHED:
            columns["e2e_s"] = np.full(len(ticks), NO_ANSWER_S if nowhere else 2.0 * way_s)
            return columns
        stretch = self._stretch(place, ticks, inside)
        line = 0.0 if nowhere else np.interp(arrived_s, self._times_s, self._flows.line[:, place])
        ttft_s = (tails.at("ttft", ttft_rank, inside) + line / max(surface.rate_max_per_s, 1e-9)) * stretch
        output = seen.output_tokens
        # Its tokens come among those who are inside while they do: so many as half-way to its end.
        usual_s = ttft_s + tails.at("tpot", tpot_rank, inside) * stretch * output
        meanwhile = self._felt(place, arrived_s + 0.5 * np.where(np.isnan(usual_s), 0.0, usual_s))
        tpot_s = tails.at("tpot", tpot_rank, meanwhile) * stretch
        decode_s = np.where(output > 1, tpot_s * np.maximum(output - 1, 0), 0.0)
        ended_s = np.where(seen.outcome == _FINISHED, ttft_s + decode_s, seen.e2e_s)
        columns |= {
            "output_tokens": output,
            "cached_tokens": seen.cached_tokens,
            "attempts": np.minimum(seen.attempts, 127),
            "outcome": seen.outcome,
            "ttft_s": np.where(seen.outcome == _FINISHED, ttft_s, seen.ttft_s) + 2.0 * way_s,
            "e2e_s": ended_s + 2.0 * way_s,
        }
        self._break(columns, arrived_s, way_s, region.lost_at)
        return columns

    def _stretch(self, place: int, ticks: Places, inside: Floats) -> Floats:
        """How much longer each row takes for the replica it meets: faster ones serve more."""
        pool, history = self._run.pools[place], self._run.paces[place]
        found = np.ones(len(ticks))
        starts = np.array([each.tick for each in history])
        era = np.searchsorted(starts, ticks, side="right") - 1
        for number in np.unique(era):
            paces = history[max(0, int(number))].paces
            here = np.flatnonzero(era == number)
            if not paces or all(pace == (1.0, 1.0) for pace in paces):
                continue
            ways = np.array([pool.stretch(inside[here], pace) for pace in paces])
            weights = np.cumsum(np.array(list(paces.values()))[:, None] / ways, axis=0)
            lots = self._dice.random(len(here)) * weights[-1]
            found[here] = ways[(lots >= weights).sum(axis=0).clip(max=len(ways) - 1), np.arange(len(here))]
        return found

    def _felt(self, place: int, at: Floats) -> Floats:
        """How many inside a pool's requests felt at these times."""
        return np.asarray(np.interp(at, self._times_s, self._flows.felt[:, place]))

    def _break(self, columns: _Columns, arrived_s: Floats, way_s: float, lost_at: list[float]) -> None:
        """Who is being served when a region is lost sees a broken stream; who is when a run is cut, stays open."""
        for at in lost_at:
            ends_s = arrived_s + columns["e2e_s"] - way_s
            hit = (arrived_s + way_s < at) & (at < ends_s) & (columns["outcome"] != _FAILED)
            seen_s = at + way_s - arrived_s
            ttft_s, decode_s = columns["ttft_s"], columns["e2e_s"] - columns["ttft_s"]
            begun = hit & (ttft_s < seen_s)
            share = np.divide(seen_s - ttft_s, decode_s, out=np.zeros(len(seen_s)), where=begun & (decode_s > 0))
            columns["output_tokens"] = np.where(
                begun, np.ceil(share * columns["output_tokens"]), np.where(hit, 0, columns["output_tokens"])
            ).astype(np.int64)
            columns["ttft_s"] = np.where(hit & ~begun, np.nan, ttft_s)
            columns["e2e_s"] = np.where(hit, seen_s, columns["e2e_s"])
            columns["outcome"] = np.where(hit, _FAILED, columns["outcome"])
        if self._run.partial:
            still = arrived_s + columns["e2e_s"] > self._run.world.kernel.at
            columns["outcome"] = np.where(still, _OPEN, columns["outcome"])
            columns["e2e_s"] = np.where(still, np.nan, columns["e2e_s"])

    def _way_s(self, part: _Part, place: int) -> float:
        origin = self._run.world.demand.streams[part.stream].origin
        way_s = self._run.ways_s[origin][self._run.pools[place].region]
        return way_s if way_s < np.inf else 0.0

    def _tails_of(self, surface: Surface) -> Tails:
        found = self._tails.get(id(surface))
        if found is None:
            found = self._tails[id(surface)] = Tails(surface)
        return found

    def _place(self, kind: str, name: str) -> int:
        return self._requests.place(kind, name)
