"""``underlay keys`` with budgets: as people write them, with what is spent of them."""

import json
import time

import click
import pytest
from msgspec.structs import replace
from tests.live.records import charge, journey, writing

from underlay.cli._budgets import budget
from underlay.domain.energy import Booked, RequestEnergy
from underlay.domain.keys import Budget


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("5usd/month", Budget("month", 5 * 10**12)),
        ("0.000000000001 USD per day", Budget("day", 1)),
        ("200000tokens/week", Budget("week", None, 200_000)),
        (" 1 tokens/total ", Budget("total", None, 1)),
        ("500kJ/day", Budget("day", joules=5e5)),
        ("1.5 kWh per month", Budget("month", joules=5.4e6)),
    ],
)
def test_budgets_as_people_write_them(text, meant):
    assert budget(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5usd",
        "5usd/year",
        "-5usd/day",
        "0usd/day",
        "0.5tokens/day",
        "9000001usd/day",
        "5 eur/day",
        "1e3usd/day",
        "5mJ/day",
        "0J/day",
        "9GWh/day",
        "9999MWh/total",
    ],
)
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(click.BadParameter):
        budget(text)


def test_keys_show_what_is_spent_of_their_budgets(underlay, data_dir):
    bounds = ("--budget", "5usd/month", "--budget", "200tokens/day", "--budget", "7usd/total")
    made = underlay(
        "keys", "create", "--tenant", "acme", "--name", "app", "--user", "ann", "--band", "batch", *bounds, "--json"
    )
    key_id = json.loads(made.stdout)["key"]["id"]
    now_s = time.time()
    with writing(data_dir) as writer:
        writer.submit_charge(charge(1, key_id=key_id, at_s=now_s, cost=25 * 10**10))
        writer.submit_charge(charge(2, key_id=key_id, at_s=now_s - 400 * 86_400, cost=10**12))
        writer.flush()
    listed = underlay("keys", "list").stdout
    assert "0.25 of 5 usd per month, 13 of 200 tokens per day, 1.25 of 7 usd in total" in listed
    new = json.loads(underlay("keys", "rotate", "app", "--json").stdout)["key"]
    assert (new["user"], new["band"]) == ("ann", "batch")
    month, day, total = new["budgets"]
    assert (month["usd"], month["tokens"], month["spent_usd"], month["spent_tokens"]) == ("5", None, "0.25", 13)
    assert (day["per"], day["tokens"], total["spent_usd"], total["resets_at"]) == ("day", 200, "1.25", None)
    assert month["resets_at"].endswith("-01T00:00:00Z")
    (_, newer) = json.loads(underlay("keys", "list", "--json").stdout)["keys"]
    assert newer["budgets"] == new["budgets"]


def test_keys_show_what_joules_are_used_of_their_budgets(underlay, data_dir):
    made = underlay("keys", "create", "--tenant", "acme", "--name", "green", "--budget", "1kWh/total", "--json")
    key_id = json.loads(made.stdout)["key"]["id"]
    energy = RequestEnergy("settled", 1.2e5, 0.5, "measured", "nvml:0", "device", {"busy": 1.2e5})
    with writing(data_dir) as writer:
        over = replace(journey(1, time.time()), key_id=key_id, energy=energy)
        writer.submit_energy(Booked(0.0, 1.0, "", "nvml:0", "measured", 1.2e5, {"busy": 1.2e5}), [over])
        writer.flush()
    assert "120 kJ (33.33 Wh) of 3.6 MJ (1 kWh) in total" in underlay("keys", "list").stdout
    (listed,) = json.loads(underlay("keys", "list", "--json").stdout)["keys"]
    (told,) = listed["budgets"]
    assert (told["joules"], told["spent_joules"], told["usd"], told["tokens"]) == (3.6e6, 1.2e5, None, None)


def test_a_band_that_nobody_serves_is_wrong_usage(underlay):
    said = underlay("keys", "create", "--tenant", "x", "--band", "bach")
    assert said.exit_code == 2
    assert "no band is called 'bach'; did you mean 'batch'?" in said.stderr
