"""What the site makes of a request's joules: grams, millilitres and money, power and cooling in them once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.ledger.builders import MODEL, decode, prefill, step, window

from underlay.domain.figures import JOULES_KWH, Figure
from underlay.ledger.attribution import attribute
from underlay.ledger.node import Host, node_accounts
from underlay.ledger.statements import Statements
from underlay.live.energy import told
from underlay.live.energy.bills import Bills
from underlay.live.energy.site import Site, hour_of
from underlay.live.settings import SiteSettings
from underlay.live.settings_file import SettingsError, load

STATED = {"pue": 1.5, "carbon_g_per_kwh": 100.0, "usd_per_kwh": 0.36, "usd_per_accelerator_hour": 3.6}


def accounts(site, begin_s=0.0, value=200.0):
    """A window with two requests on a device and its host."""
    log = [step(prefill("a#1/prefill"), begin_s=begin_s, end_s=begin_s + 0.25),
           step(decode("a#1/decode"), decode("b#1/decode"), begin_s=begin_s + 0.25, end_s=begin_s + 0.75)]  # fmt: skip
    device = attribute(window(value, begin_s, begin_s + 1.0), log, MODEL)
    host = Host(Figure(40.0, "J", "measured", "rapl"), Figure(10.0, "W", "calibrated"), 0.5)
    return node_accounts([device], host, pue=site.pue)


def settle(site, *hours, ticket="a", money_usd="0", carried_bytes=0):
    """A request that was in a window at each of these hours, and the bill of nobody."""
    statements, bills = Statements(), Bills(site)
    for place, hour in enumerate(hours):
        closed = accounts(site, float(place))
        statements.book(closed)
        bills.add(closed, hour)
    phases = (f"{ticket}#1/prefill", f"{ticket}#1/decode")
    found = tuple(statements.settle(phase, "answered") for phase in phases)
    return told.settled(
        told.Reckoned(found, bills.take(ticket), carried_bytes, 0.0, "server: accelerators and host"),
        site,
        money_usd,
    )


def test_power_and_cooling_are_in_grams_and_money_once_and_in_joules_never() -> None:
    energy = settle(Site(SiteSettings(**STATED)), 3, money_usd="1.00")
    it = sum(joules for account, joules in energy.accounts.items() if account != "overhead")
    assert energy.joules == pytest.approx(it)
    assert energy.accounts["overhead"] == pytest.approx(0.5 * it)
    assert energy.carbon["location"].value == pytest.approx(1.5 * it / JOULES_KWH * 100.0)
    assert energy.cost["electricity"].value == pytest.approx(it / JOULES_KWH * 0.36, rel=1e-6)
    assert energy.cost["overhead"].value == pytest.approx(0.5 * it / JOULES_KWH * 0.36, rel=1e-6)
    assert energy.margin.value == pytest.approx(1.0 - sum(cost.value for cost in energy.cost.values()))
    assert energy.carbon["location"].source == "stated in the settings"


def test_what_nobody_said_is_not_there() -> None:
    energy = settle(Site(SiteSettings()), 3, money_usd="1.00")
    assert "overhead" not in energy.accounts
    assert energy.cost.keys() == {"electricity"}
    assert energy.margin is None
    assert energy.carbon.keys() == {"location"}
    assert energy.carbon["location"].method == "assumed"
    assert energy.carbon["location"].boundary.endswith("no PUE is known")
    assert energy.water.keys() == {"off_site"}
    assert "network" not in energy.beside


def test_a_region_brings_what_was_published_for_it() -> None:
    site = Site(SiteSettings(region="azure/westeurope", accelerator="h100-sxm"))
    assert site.name == "azure/westeurope"
    assert Site(SiteSettings(region="azure/westeurope", name="here")).name == "here"
    energy = settle(site, 3, carried_bytes=1000)
    assert {"location", "marginal", "embodied"} <= energy.carbon.keys()
    assert energy.water.keys() == {"on_site", "off_site"}
    assert energy.cost["accelerator"].method == "assumed"  # list prices
    assert energy.beside["network"].value > 0.0
    assert energy.beside["idle_provisioned"].value > 0.0
    located, made = energy.carbon["location"], energy.carbon["embodied"]
    assert made.value > 0.0
    assert located.value == pytest.approx(
        energy.joules * site.pue.value / JOULES_KWH * site.rates(0).carbon_location.value
    )  # what it took to make the machine is apart


def test_each_hour_has_its_own_grid_and_tariff() -> None:
    by_hour = {"carbon_by_hour": tuple(float(hour) for hour in range(24)), "pue": 1.0}
    tariff = {"usd_by_hour": tuple(hour / 100.0 for hour in range(24))}
    site = Site(SiteSettings(**by_hour, **tariff))
    one, two, both = settle(site, 2), settle(site, 4), settle(site, 2, 4)
    assert two.carbon["location"].value == pytest.approx(2.0 * one.carbon["location"].value)
    for told_of in ("carbon", "cost"):
        name = "location" if told_of == "carbon" else "electricity"
        parts = [getattr(energy, told_of)[name].value for energy in (one, two, both)]
        assert parts[2] == pytest.approx(parts[0] + parts[1], rel=1e-6)
    assert hour_of(1_795_482_735.0) == 1


def test_bought_accelerators_are_written_off_and_processors_cost_nothing_that_is_known() -> None:
    bought = Site(SiteSettings(purchase_usd=35_064.0, life_months=48)).costs(0).accelerator_hour
    assert (bought.value, bought.method) == (pytest.approx(1.0), "modelled")
    assert Site(SiteSettings()).costs(0).accelerator_hour is None
    assert Site(SiteSettings(country="FR")).costs(0).electricity_kwh is None
    assert Site(SiteSettings(country="FR")).rates(0).carbon_location.method == "modelled"


@given(st.lists(st.tuples(st.integers(0, 23), st.floats(0.0, 1e3)), min_size=1, max_size=5))
@quick
def test_what_all_pay_together_is_what_the_window_cost(windows) -> None:
    site = Site(SiteSettings(**STATED, accelerators=8))
    bills, tickets, nobody = Bills(site), ("a", "b"), []
    for place, (hour, value) in enumerate(windows):
        nobody.append(bills.add(accounts(site, float(place), value), hour))
    everybodys = [*(bills.take(ticket) for ticket in tickets), *nobody]
    hire = sum(bill.accelerator_pico_usd for bill in everybodys)
    assert hire == pytest.approx(len(windows) * 8 * 3.6 / 3600 * 1e12, rel=1e-9)
    assert sum(bill.accelerator_hours for bill in everybodys) == pytest.approx(8 * len(windows) / 3600.0)
    joules = sum(sum(bill.hours.values()) for bill in everybodys)
    assert joules == pytest.approx(sum(value + 40.0 for _, value in windows))
    assert bills.kept == 0


@pytest.mark.parametrize(
    ("site", "where", "what"),
    [
        ({"region": "azure/westeurop"}, "site.region", "did you mean 'azure/westeurope'?"),
        ({"accelerator": "h100"}, "site.accelerator", "'h100-sxm'"),
        ({"region": "azure/westeurope", "country": "NL"}, "site.country", "name one of the two"),
        ({"pue": 0.9}, "site.pue", ""),
    ],
)
def test_a_name_that_nothing_was_published_for_is_a_mistake_of_the_settings(site, where, what) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {}, {f"site.{name}": value for name, value in site.items()})
    assert where in caught.value.render()
    assert what in caught.value.render()
