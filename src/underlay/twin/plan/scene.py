"""A plan as a scenario: the same replicas in the same regions, under its peak, for the twin to run.

Every pool is a model of its own name, and every flow of the plan a crowd that asks for it from where its clients
are, so that the twin's front door sends each call where the plan says. A place of clients without replicas becomes
a region with one server that idles; it is no part of the plan, and its energy is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import yaml

from underlay.twin.plan.figures import Pool
from underlay.twin.plan.offers import BLOCK_TOKENS, MAX_SEQUENCES
from underlay.twin.plan.planner import Plan
from underlay.twin.scenario import Scenario, with_settings

#: So many calls are simulated, if that takes neither less nor more time than this.
_CALLS = 120_000
_SPAN_S = (60.0, 900.0)
#: A day of spring, as warm as a year in the mean: published PUEs are of whole years.
_DAY = 111


class _WrittenOut(yaml.SafeDumper):
    """Writes everything out wherever it stands: scenarios have no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- as it is called there
        """Always."""
        return True


def region_name(place: str) -> str:
    """A region as scenarios call it."""
    return place.replace("/", "-").lower()


def pool_name(plan: Plan, pool: Pool) -> str:
    """A pool as the model that callers ask for."""
    offer = pool.carrier.offer
    place = region_name(plan.places[pool.region].name)
    return f"{place}-{offer.accelerator}-{offer.parallelism}-{offer.precision}"


def scenario_of(plan: Plan) -> Scenario:
    """The scenario, checked as if it had been written by hand. Errors: ScenarioError."""
    return with_settings(Scenario.model_validate(tree(plan)), {})


def text(plan: Plan) -> str:
    """The scenario as a file."""
    about = "# Made by 'underlay plan': the planned replicas under the planned peak.\n"
    return about + yaml.dump(tree(plan), Dumper=_WrittenOut, sort_keys=False, width=110)


def tree(plan: Plan) -> dict[str, Any]:
    """The scenario as plain values."""
    question = plan.question
    slo: Mapping[str, float | None] = {"ttft": question.slo.ttft_s, "tpot": question.slo.tpot_s}
    return {
        "name": f"plan-{question.model}",
        "about": f"{sum(pool.replicas for pool in plan.pools)} replicas of {question.model} at the planned peak",
        "duration": _span_s(question.demand.peak_per_s),
        "seed": question.seed,
        "slo": dict(slo),
        "world": {"servers": _servers(plan), "regions": _regions(plan), "day_of_year": _DAY},
        "models": [_model(plan, pool) for pool in plan.pools],
        "crowds": list(_crowds(plan)),
    }


def _span_s(rate_per_s: float) -> float:
    least, most = _SPAN_S
    return float(round(min(max(_CALLS / rate_per_s, least), most)))


def _servers(plan: Plan) -> list[dict[str, Any]]:
    kinds = {pool.carrier.offer.accelerator: pool.carrier.offer.price.usd for pool in plan.pools}
    size = plan.question.server_accelerators
    return [
        {"name": name, "accelerator": name, "accelerators": size, "usd_per_hour": usd}
        for name, usd in kinds.items()
    ]


def _regions(plan: Plan) -> list[dict[str, Any]]:
    used = {pool.region: pool.carrier.offer.accelerator for pool in plan.pools}
    regions = []
    for place, accelerator in used.items():
        site = plan.places[place]
        told: dict[str, Any] = {"name": region_name(site.name), "like": site.name, "server": accelerator}
        if site.asked.power_cap_w < float("inf"):
            told["power_cap"] = site.asked.power_cap_w
        if site.asked.pue is not None:
            told["pue"] = site.asked.pue
        if site.asked.carbon_g_kwh is not None:
            told["carbon_g_per_kwh"] = site.asked.carbon_g_kwh
        told["usd_per_kwh"] = site.price.value
        regions.append(told)
    names = {region["name"] for region in regions}
    elsewhere = [client.place for client in plan.question.clients if region_name(client.place) not in names]
    regions += [{"name": region_name(place), "like": place} for place in dict.fromkeys(elsewhere)]
    return regions


def _model(plan: Plan, pool: Pool) -> dict[str, Any]:
    offer = pool.carrier.offer
    return {
        "name": pool_name(plan, pool),
        "model": plan.question.model,
        "accelerator": offer.accelerator,
        "precision": offer.precision,
        "parallelism": offer.parallelism,
        "replicas": {region_name(plan.places[pool.region].name): pool.replicas},
        "context_tokens": offer.rules.context_tokens,
        "engine": {"max_sequences": MAX_SEQUENCES, "block_tokens": BLOCK_TOKENS, "prefix_caching": False},
    }


def _crowds(plan: Plan) -> list[dict[str, Any]]:
    """A crowd for each flow; a part of a bursty load is less bursty."""
    demand = plan.question.demand
    pools = {(pool.region, pool.kind): pool for pool in plan.pools}
    crowds = []
    for number, ((client, region, kind), flow) in enumerate(sorted(plan.found.flows.items()), start=1):
        near = plan.question.clients[client].place if plan.question.clients else plan.places[region].name
        cv = sqrt(max(1e-3, 1.0 + (demand.cv**2 - 1.0) * flow / demand.peak_per_s))
        process = "poisson" if cv == 1.0 else {"kind": "gamma", "cv": round(cv, 4)}
        crowds.append(
            {
                "name": f"flow-{number}",
                "region": region_name(near),
                "model": pool_name(plan, pools[region, kind]),
                "arrivals": {"rate_per_s": flow, "process": process},
                **demand.written,
            }
        )
    return crowds
