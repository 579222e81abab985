"""What each offer carries, and what it draws for it: first by the formula, then by runs of the modelled engine.

The formula tells apart what is far apart: of one accelerator, splits that carry less than ``WORTH`` of what its
best one carries for each accelerator are left out before anything is run. The rest is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from underlay.physics import catalogue, host_power, power
from underlay.twin.plan.offers import LeftOut, Offer
from underlay.twin.plan.problem import Kind
from underlay.twin.plan.question import Question
from underlay.twin.plan.steady import Shape, Steady, steady
from underlay.twin.plan.sustained import LOADS, Bench, Seen, Target

#: A split that carries less than this part of the best one, for each accelerator, is not run.
WORTH = 0.4
#: Between these parts of the highest load the search takes power as a straight line.
_LINE = (0.5, 1.0)

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Carrier:
    """An offer with the highest load that it sustains.

    ``formula`` is what the closed form said, ``seen`` the run at that load. ``extra_w`` are IT watts beyond its
    idle server at ``LOADS``, parts of that load; nothing of no load.
    """

    offer: Offer
    bench: Bench
    formula: Steady
    seen: Seen
    capacity_per_s: float
    extra_w: tuple[float, ...]

    def draws_w(self, load: float) -> float:
        """IT watts of one replica beyond its idle server, at a part of its highest load."""
        return float(np.interp(load, (0.0, *LOADS), (0.0, *self.extra_w)))

    def kind(self) -> Kind:
        """As the search sees it: power is a straight line."""
        low, high = (self.draws_w(load) for load in _LINE)
        joules = max(high - low, 0.0) / (_LINE[1] - _LINE[0]) / self.capacity_per_s
        on_w = max(high - joules * self.capacity_per_s, 0.0)
        offer = self.offer
        return Kind(offer.name, offer.accelerator, offer.accelerators, self.capacity_per_s, on_w, joules)

    def scaled(self, capacity: float, watts: float) -> Carrier:
        """The same with another capacity and other watts, by factors."""
        extra_w = tuple(value * watts for value in self.extra_w)
        return replace(self, capacity_per_s=self.capacity_per_s * capacity, extra_w=extra_w)


def carriers(
    question: Question, found: Sequence[Offer], way_s: float, watch: Watch
) -> tuple[list[Carrier], list[LeftOut]]:
    """Everything that keeps the promise at some load. ``way_s`` is the farthest caller's way there and back."""
    shape = Shape.of(question.demand)
    target = target_of(question, way_s)
    left: list[LeftOut] = []
    able: list[tuple[Offer, Steady]] = []
    for offer in found:
        carried = formula(offer, shape, target)
        if carried.rate_per_s:
            able.append((offer, carried))
        else:
            left.append(LeftOut(offer.name, carried.bound))
    kept: list[Carrier] = []
    worth, others = _worth(able)
    left += others
    for number, (offer, carried) in enumerate(worth):
        watch(f"running {offer.name}", number, len(worth))
        bench = Bench(
            offer.profile.coefficients,
            offer.rules,
            offer.curve,
            question.demand,
            target,
            carried.sequences,
            question.seed,
        )
        seen = bench.highest(carried.rate_per_s * 0.9)
        if seen is None:
            left.append(LeftOut(offer.name, _missed(bench, carried)))
            continue
        kept.append(Carrier(offer, bench, carried, seen, seen.rate_per_s, _extra_w(question, offer, bench, seen)))
    watch("runs done", len(worth), len(worth))
    return kept, left


def target_of(question: Question, way_s: float) -> Target:
    """The promise as a replica must keep it."""
    slo = question.slo
    ttft_s = float("inf") if slo.ttft_s is None else slo.ttft_s - way_s
    return Target(ttft_s, float("inf") if slo.tpot_s is None else slo.tpot_s, slo.attainment)


def formula(offer: Offer, shape: Shape, target: Target) -> Steady:
    """What the closed form says."""
    rules = offer.rules
    return steady(
        offer.profile.coefficients,
        shape,
        kv_tokens=rules.blocks * rules.block_tokens,
        step_tokens=rules.step_tokens,
        max_sequences=rules.max_sequences,
        ttft_s=target.ttft_s,
        tpot_s=target.tpot_s,
    )


def server_base_w(question: Question, accelerator: str) -> float:
    """IT watts of a server with nothing running, models loaded."""
    host = host_power.host()
    idle_w, _ = power.idle_power_w(catalogue.accelerator(accelerator))
    return host.idle_w + question.server_accelerators * idle_w * host.supplied


def _worth(able: Iterable[tuple[Offer, Steady]]) -> tuple[list[tuple[Offer, Steady]], list[LeftOut]]:
    """Those worth a run, and those left out for another split of the same accelerator."""
    best: dict[str, tuple[float, str]] = {}
    pairs = list(able)
    for offer, carried in pairs:
        each = carried.rate_per_s / offer.accelerators
        best[offer.accelerator] = max(best.get(offer.accelerator, (0.0, "")), (each, offer.name))
    kept, left = [], []
    for offer, carried in pairs:
        share = carried.rate_per_s / offer.accelerators / best[offer.accelerator][0]
        if share >= WORTH:
            kept.append((offer, carried))
        else:
            said = f"by the formula {share:.0%} of what {best[offer.accelerator][1]} carries for each accelerator"
            left.append(LeftOut(offer.name, said))
    return kept, left


def _missed(bench: Bench, carried: Steady) -> str:
    """What keeps a replica from serving anybody as promised."""
    seen = bench.run(carried.rate_per_s * 0.02)
    return (
        f"even at {seen.rate_per_s:.2g} requests/s only {seen.attainment:.1%} are in time: TTFT p99"
        f" {seen.ttft_p99_s * 1e3:,.0f} ms, TPOT p99 {seen.tpot_p99_s * 1e3:.1f} ms at the replica"
    )


def _extra_w(question: Question, offer: Offer, bench: Bench, highest: Seen) -> tuple[float, ...]:
    """IT watts beyond the idle server: the accelerators', their fans and supply, and the host's for being busy."""
    host = host_power.host()
    host_w = (host.busy_w - host.idle_w) * offer.accelerators / question.server_accelerators
    seen = [bench.run(highest.rate_per_s * load) for load in LOADS[:-1]] + [highest]
    return tuple((run.power_w - offer.curve.idle_w) * host.supplied + host_w * run.busy_share for run in seen)
