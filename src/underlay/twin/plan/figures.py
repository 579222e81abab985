"""What does a plan come to? Power at the feeder, money, carbon, and how full it is.

Replicas are sized for the peak; everything that adds up over time is of the mean load, for all 8,760 hours of a
year. Accelerators are paid by the hour in whole servers, busy or not. Power is read off the curve of each kind at
the load of each pool, not the straight line of the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from underlay.domain.figures import weakest
from underlay.physics import catalogue, power
from underlay.twin.plan.carriers import Carrier
from underlay.twin.plan.places import Place, Ways
from underlay.twin.plan.problem import Problem
from underlay.twin.plan.question import Question
from underlay.twin.plan.search import Found
from underlay.twin.plan.sustained import Seen

YEAR_H = 8760.0


class Pool(NamedTuple):
    """Equal replicas in one region. Loads are requests per second of all of them; ``seen`` is one at the peak.

    ``ttft_p99_s`` has the way of the farthest client in it whom they serve.
    """

    region: int
    kind: int
    carrier: Carrier
    replicas: int
    peak_per_s: float
    mean_per_s: float
    seen: Seen
    ttft_p99_s: float

    @property
    def accelerators(self) -> int:
        """How many its replicas take."""
        return self.replicas * self.carrier.offer.accelerators

    @property
    def peak_load(self) -> float:
        """The part of its highest load that it carries at the peak."""
        return self.peak_per_s / (self.replicas * self.carrier.capacity_per_s)


class Watts(NamedTuple):
    """What one region draws at its feeder: at the peak, in the mean, and with all its replicas fully loaded."""

    peak_w: float
    mean_w: float
    full_w: float


class Total(NamedTuple):
    """What a plan comes to; watts at the feeder, per million tokens those of answers unless it says all."""

    replicas: int
    accelerators: int
    peak_w: float
    mean_w: float
    full_w: float
    usd_per_hour: float
    electricity_usd_per_hour: float
    usd_per_mtok: float
    usd_per_mtok_all: float
    carbon_g_per_mtok: float
    carbon_t_per_year: float
    joules_per_token: float
    peak_load: float
    mean_load: float


class Prices(NamedTuple):
    """What is taken for each accelerator (USD per hour), and for each region (USD and grams per kWh)."""

    usd_per_hour: dict[str, float]
    usd_kwh: tuple[float, ...]
    carbon_g_kwh: tuple[float, ...]


def prices_of(places: Sequence[Place], carriers: Sequence[Carrier]) -> Prices:
    """Those in the middle."""
    return Prices(
        {carrier.offer.accelerator: carrier.offer.price.usd for carrier in carriers},
        tuple(place.price.value for place in places),
        tuple(place.carbon.value for place in places),
    )


def pools(problem: Problem, found: Found, carriers: Sequence[Carrier], ways: Ways) -> list[Pool]:
    """The replicas of a plan, and how full one of each pool is at the peak: by a run."""
    made = []
    for (region, kind), replicas in found.replicas.items():
        flows = {c: flow for (c, r, k), flow in found.flows.items() if (r, k) == (region, kind)}
        peak_per_s = sum(flows.values())
        bench = carriers[kind].bench
        least = carriers[kind].capacity_per_s * 1e-3
        seen = bench.run(max(peak_per_s / replicas, least))
        way_s = max((ways.caller_s(client, region) for client in flows), default=0.0)
        mean_per_s = peak_per_s * problem.mean_per_s / problem.peak_per_s
        made.append(
            Pool(region, kind, carriers[kind], replicas, peak_per_s, mean_per_s, seen, seen.ttft_p99_s + way_s)
        )
    return made


def watts(problem: Problem, found: Found, carriers: Sequence[Carrier]) -> list[Watts]:
    """What each region draws at its feeder."""
    mean = problem.mean_per_s / problem.peak_per_s
    drawn = []
    for place, region in enumerate(problem.regions):
        base_w = sum(
            problem.servers[name].base_w * count for (r, name), count in found.servers.items() if r == place
        )
        sums = [base_w, base_w, base_w]
        for (r, kind), replicas in found.replicas.items():
            if r == place:
                flow = sum(flow for (_, at, k), flow in found.flows.items() if (at, k) == (r, kind))
                load = flow / (replicas * carriers[kind].capacity_per_s)
                for number, part in enumerate((load, load * mean, 1.0)):
                    sums[number] += replicas * carriers[kind].draws_w(min(part, 1.0))
        drawn.append(Watts(*(each * region.pue for each in sums)))
    return drawn


def total(question: Question, problem: Problem, found: Found, carriers: Sequence[Carrier], prices: Prices) -> Total:
    """What a plan comes to at these prices."""
    drawn = watts(problem, found, carriers)
    accelerators = {key: count * problem.servers[key[1]].accelerators for key, count in found.servers.items()}
    hardware = sum(prices.usd_per_hour[name] * count for (_, name), count in accelerators.items())
    electricity = sum(each.mean_w * 1e-3 * price for each, price in zip(drawn, prices.usd_kwh, strict=True))
    grams = sum(each.mean_w * 1e-3 * carbon for each, carbon in zip(drawn, prices.carbon_g_kwh, strict=True))
    capacity = sum(carriers[kind].capacity_per_s * count for (_, kind), count in found.replicas.items())
    demand = question.demand
    mtok = problem.mean_per_s * demand.output_mean * 3600 / 1e6
    mtok_all = mtok * (demand.prompt_mean + demand.output_mean) / demand.output_mean
    mean_w = sum(each.mean_w for each in drawn)
    return Total(
        replicas=sum(found.replicas.values()),
        accelerators=sum(accelerators.values()),
        peak_w=sum(each.peak_w for each in drawn),
        mean_w=mean_w,
        full_w=sum(each.full_w for each in drawn),
        usd_per_hour=hardware + electricity,
        electricity_usd_per_hour=electricity,
        usd_per_mtok=(hardware + electricity) / mtok,
        usd_per_mtok_all=(hardware + electricity) / mtok_all,
        carbon_g_per_mtok=grams / mtok,
        carbon_t_per_year=grams * YEAR_H / 1e6,
        joules_per_token=mean_w * 3600 / (mtok * 1e6),
        peak_load=problem.peak_per_s / capacity,
        mean_load=problem.mean_per_s / capacity,
    )


def methods(places: Sequence[Place], made: Sequence[Pool]) -> dict[str, str]:
    """How each figure of a total is known: as well as the least known of its parts; the load is given."""
    used = [places[pool.region] for pool in made]
    offers = [pool.carrier.offer for pool in made]
    speed = weakest(["modelled", *(offer.profile.method for offer in offers)])
    idle = [power.idle_power_w(catalogue.accelerator(offer.accelerator))[1] for offer in offers]
    watts = weakest(
        [speed, *idle, *(offer.curve.method for offer in offers), *(place.pue.method for place in used)]
    )
    money = weakest([speed, *(offer.price.method for offer in offers)])
    electricity = weakest([watts, *(place.price.method for place in used)])
    carbon = weakest([watts, *(place.carbon.method for place in used)])
    known: dict[str, str] = dict.fromkeys(
        ("replicas", "accelerators", "peak_load", "mean_load", "ttft_p99_s", "tpot_p99_s"), speed
    )
    known |= dict.fromkeys(("peak_w", "mean_w", "full_w", "joules_per_token"), watts)
    known |= dict.fromkeys(("carbon_g_per_mtok", "carbon_t_per_year"), carbon)
    known |= dict.fromkeys(("usd_per_hour", "usd_per_mtok", "usd_per_mtok_all"), weakest([money, electricity]))
    return known | {"electricity_usd_per_hour": electricity}
