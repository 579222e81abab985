"""A plan as JSON for programs: everything, what is not known as null."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from underlay.cli._planned import FIGURES, value_of
from underlay.twin.plan.scene import pool_name

if TYPE_CHECKING:
    from underlay.twin.plan.carriers import Carrier
    from underlay.twin.plan.figures import Pool
    from underlay.twin.plan.places import Known
    from underlay.twin.plan.planner import Plan
    from underlay.twin.plan.verifying import Compared, Verified


def fields(plan: Plan, verified: Verified | None, scenario: Path | None) -> dict[str, Any]:
    """Everything, for programs; what is not known is null."""
    question, found = plan.question, plan.found
    demand = question.demand
    return {
        "model": question.model,
        "objective": question.objective,
        "slo": asdict(question.slo),
        "load": {
            "mean_per_s": demand.mean_per_s,
            "peak_per_s": demand.peak_per_s,
            "cv": demand.cv,
            "prompt_tokens_mean": demand.prompt_mean,
            "output_tokens_mean": demand.output_mean,
            "note": demand.note,
            "method": demand.method,
        },
        "search": {
            "status": found.status,
            "objective": found.objective,
            "bound": found.bound,
            "gap": found.gap,
        },
        "pools": [_pool(plan, pool) for pool in plan.pools],
        "regions": [_region(plan, number) for number in range(len(plan.places))],
        "flows": [
            {
                "client": plan.ways.clients[c],
                "region": plan.places[r].name,
                "kind": plan.carriers[k].offer.name,
                "peak_per_s": flow,
                "rtt_s": plan.ways.rtt_s[c][r],
            }
            for (c, r, k), flow in sorted(found.flows.items())
        ],
        "figures": [_figure(plan, name) for name in FIGURES],
        "uncertainty": _sure(plan),
        "kinds": [_kind(carrier) for carrier in plan.carriers],
        "left_out": [each._asdict() for each in plan.left],
        "verified": _verified(verified),
        "warnings": list(plan.warnings),
        "scenario": str(scenario) if scenario is not None else None,
    }


def _pool(plan: Plan, pool: Pool) -> dict[str, Any]:
    offer = pool.carrier.offer
    return {
        "name": pool_name(plan, pool),
        "region": plan.places[pool.region].name,
        "accelerator": offer.accelerator,
        "parallelism": offer.parallelism,
        "precision": offer.precision,
        "replicas": pool.replicas,
        "accelerators": pool.accelerators,
        "peak_per_s": pool.peak_per_s,
        "mean_per_s": pool.mean_per_s,
        "peak_load": pool.peak_load,
        "ttft_p99_s": _known(pool.ttft_p99_s),
        "tpot_p99_s": _known(pool.seen.tpot_p99_s),
        "slo_attainment": pool.seen.attainment,
    }


def _region(plan: Plan, number: int) -> dict[str, Any]:
    place, drawn = plan.places[number], plan.watts[number]
    return {
        "name": place.name,
        "servers": {name: count for (r, name), count in plan.found.servers.items() if r == number},
        "peak_w": drawn.peak_w,
        "mean_w": drawn.mean_w,
        "full_w": drawn.full_w,
        "pue": _grounded(place.pue),
        "carbon_g_kwh": _grounded(place.carbon),
        "usd_kwh": _grounded(place.price),
    }


def _grounded(known: Known) -> dict[str, Any]:
    return dict(known._asdict())


def _figure(plan: Plan, name: str) -> dict[str, Any]:
    title, unit, size = FIGURES[name]
    band = plan.bands.bands.get(name) if plan.bands else None
    return {
        "name": name,
        "title": title,
        "value": _known(value_of(plan, name) * size),
        "low": _known(band.low * size) if band else None,
        "high": _known(band.high * size) if band else None,
        "unit": unit,
        "method": plan.methods[name],
    }


def _sure(plan: Plan) -> dict[str, Any] | None:
    sure = plan.bands
    if sure is None:
        return None
    return {
        "samples": sure.samples,
        "percentiles": [5, 95],
        "kept_share": sure.kept_share,
        "fitting_share": sure.fitting_share,
        "drawn": list(sure.drawn),
    }


def _kind(carrier: Carrier) -> dict[str, Any]:
    offer = carrier.offer
    return {
        "name": offer.name,
        "formula_per_s": carrier.formula.rate_per_s,
        "bound": carrier.formula.bound,
        "capacity_per_s": carrier.capacity_per_s,
        "accelerators": offer.accelerators,
        "steps": offer.profile.method,
        "power": offer.curve.method,
        "price": dict(offer.price._asdict()),
    }


def _verified(verified: Verified | None) -> dict[str, Any] | None:
    if verified is None:
        return None
    return {
        "requests": verified.requests,
        "simulated_s": verified.simulated_s,
        "kept": verified.kept,
        "partial": verified.partial,
        "trace_hash": verified.trace_hash,
        "figures": [_compared(each) for each in verified.compared],
    }


def _compared(each: Compared) -> dict[str, Any]:
    told_of = dict(each._asdict())
    return {**told_of, "simulated": _known(each.simulated), "off": None if isnan(each.off) else each.off}


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
