from dataclasses import replace

import pytest
from tests.twin.plan.builders import demand, nobody_watches, question

from underlay.domain.errors import BadRequest
from underlay.physics import grid
from underlay.twin.plan.planner import NothingFits, plan
from underlay.twin.plan.question import Candidate, Client, Slo


def made(**more):
    return plan(question(**more), nobody_watches)


def test_there_are_as_many_replicas_as_the_peak_takes():
    found = made()
    (pool,) = found.pools
    assert pool.replicas == -(-60.0 // pool.carrier.capacity_per_s)
    assert pool.peak_per_s == pytest.approx(60.0)
    assert pool.mean_per_s == pytest.approx(40.0)
    assert pool.seen.attainment >= 0.98
    assert found.found.gap <= 1e-4
    assert found.total.accelerators % 8 == 0


def test_power_money_and_carbon_add_up():
    found = made(usd_per_hour={"h100-sxm": 2.0})
    total, drawn = found.total, found.watts[0]
    known = grid.region("azure/westus2")
    assert total.peak_w == drawn.peak_w
    assert drawn.mean_w < drawn.peak_w <= drawn.full_w
    assert total.electricity_usd_per_hour == pytest.approx(drawn.mean_w * 1e-3 * known.usd_kwh)
    assert total.usd_per_hour == pytest.approx(2.0 * total.accelerators + total.electricity_usd_per_hour)
    tokens_per_hour = 40.0 * found.question.demand.output_mean * 3600
    assert total.usd_per_mtok == pytest.approx(total.usd_per_hour / tokens_per_hour * 1e6)
    assert total.joules_per_token == pytest.approx(drawn.mean_w * 3600 / tokens_per_hour)
    assert total.carbon_t_per_year == pytest.approx(drawn.mean_w * 1e-3 * known.carbon_g_kwh * 8760 / 1e6)


def test_growth_pue_and_a_tighter_promise_cost_what_they_must():
    base = made()
    assert made(demand=demand().times(3.0)).total.replicas == pytest.approx(3 * base.total.replicas, abs=2)
    hot = made(regions=(Candidate("azure/westus2", pue=base.places[0].pue.value * 2),))
    assert hot.total.peak_w == pytest.approx(2 * base.total.peak_w)
    assert made(slo=Slo(1.0, 0.011, 0.98)).total.replicas > base.total.replicas


def test_the_objective_decides_where():
    """The greenest is not the cheapest: carbon goes by the grid, cost by the price of electricity."""
    regions = (
        Candidate("azure/westeurope", usd_kwh=0.01, carbon_g_kwh=400.0, pue=1.1),
        Candidate("azure/northeurope", usd_kwh=0.30, carbon_g_kwh=20.0, pue=1.1),
    )
    used = {
        objective: {pool.region for pool in made(regions=regions, objective=objective).pools}
        for objective in ("cost", "carbon")
    }
    assert used == {"cost": {0}, "carbon": {1}}


def test_energy_weighs_accelerators_by_what_they_draw():
    kinds = {"accelerators": ("h100-sxm", "a100-80-sxm"), "usd_per_hour": {"a100-80-sxm": 0.01}}
    cheap, frugal = made(**kinds), made(**kinds, objective="energy")
    assert cheap.total.usd_per_hour < frugal.total.usd_per_hour
    assert frugal.total.mean_w < cheap.total.mean_w
    assert frugal.pools[0].carrier.offer.accelerator == "h100-sxm"


def test_clients_are_served_within_reach_and_the_loss_of_a_region_is_survived():
    asked = {
        "regions": ("azure/westeurope", "azure/northeurope", "azure/uksouth"),
        "clients": (Client("azure/westeurope", 3), Client("azure/uksouth", 2)),
        "rtt_max_s": 0.04,
        "survives_region": True,
    }
    found = made(**asked)
    capacity = {pool.region: pool.replicas * pool.carrier.capacity_per_s for pool in found.pools}
    assert sum(capacity.values()) - max(capacity.values()) >= 60.0
    assert all(found.ways.rtt_s[client][region] <= 0.04 for client, region, _ in found.found.flows)
    assert all(pool.ttft_p99_s > pool.seen.ttft_p99_s + 0.02 - 1e-9 for pool in found.pools)


def test_a_share_cap_and_one_kind_are_kept():
    capped = made(regions=("azure/westus2", "azure/eastus"), share_max=0.6)
    assert max(pool.peak_per_s for pool in capped.pools) <= 36.0 + 1e-6
    few = {"accelerators": ("h100-sxm", "b200-sxm"), "available": {"h100-sxm": 8, "b200-sxm": 8}}
    load = demand(1000.0, 1000.0)
    mixed = made(**few, demand=load, one_kind=False)
    assert {pool.carrier.offer.accelerator for pool in mixed.pools} == {"h100-sxm", "b200-sxm"}
    with pytest.raises(NothingFits) as caught:
        made(**few, demand=load)
    assert any(line.startswith("one kind of replica in each region") for line in caught.value.reasons)


def test_equal_questions_have_equal_plans():
    one, other = made(), made()
    assert one.found == other.found
    assert one.total == other.total
    assert made(seed=5).carriers[0].capacity_per_s != one.carriers[0].capacity_per_s


@pytest.mark.parametrize(
    ("more", "about", "reason"),
    [
        ({"available": {"h100-sxm": 0}}, "no plan keeps all bounds", "the 0 x h100-sxm that there are; without it"),
        (
            {"regions": (Candidate("azure/westus2", power_cap_w=1000.0),)},
            "no plan keeps all bounds",
            "the 0.001 MW of azure/westus2; without it",
        ),
        (
            {"slo": Slo(1.0, 0.001)},
            "nothing serves llama-3.1-8b as promised",
            "one sequence alone, the TPOT is 1 ms",
        ),
        ({"slo": Slo(0.02, 0.03)}, "no TTFT is left", "raise the TTFT"),
        (
            {"clients": (Client("azure/japaneast"),), "rtt_max_s": 0.02},
            "no region is near enough for every client",
            "azure/japaneast: the nearest region, azure/westus2, is",
        ),
        (
            {
                "regions": ("azure/westus2", "azure/westeurope"),
                "clients": (Client("azure/westus2"),),
                "rtt_max_s": 0.02,
                "rtt_lost_max_s": 0.02,
                "survives_region": True,
            },
            "not every client has a second region",
            "azure/westus2 when azure/westus2 is lost: the next region, azure/westeurope, is",
        ),
        ({"accelerators": ("rtx-4090",)}, "nothing serves llama-3.1-8b as promised", "no list price is known"),
    ],
)
def test_nothing_fits_and_it_says_which_bound_failed(more, about, reason):
    with pytest.raises(NothingFits) as caught:
        made(**more)
    assert caught.value.about == about
    assert any(reason in line for line in caught.value.reasons), caught.value.reasons


def test_what_is_assumed_is_told():
    found = made(regions=("azure/uksouth",), demand=demand(60.0, 60.0))
    said = "\n".join(found.warnings)
    assert "The peak is taken to be the mean" in said
    assert "azure/uksouth: its price of" in said
    assert found.methods["usd_per_hour"] == "assumed"
    given = made(regions=(Candidate("azure/uksouth", 0.1, 50.0, 1.2),), usd_per_hour={"h100-sxm": 2.0})
    assert "azure/uksouth" not in "\n".join(given.warnings)
    assert given.methods["replicas"] == "modelled"


def test_a_question_that_contradicts_itself_is_refused():
    asked = question()
    with pytest.raises(BadRequest, match="name two or more"):
        replace(asked, survives_region=True)
    with pytest.raises(BadRequest, match="named twice"):
        replace(asked, regions=asked.regions * 2)
    with pytest.raises(BadRequest, match="2 regions of 1"):
        replace(asked, regions_min=2)
    with pytest.raises(BadRequest, match="Promise a TTFT or a TPOT"):
        replace(asked, slo=Slo(None, None))
