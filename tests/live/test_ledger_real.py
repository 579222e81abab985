"""The ledger of real platforms, one of them killed: its joules are the meters', and each request's its journey's."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from tests.live.wire import eventually
from tests.support.platform import running_platform

from underlay.cli import main
from underlay.live.store import Store

BODY = {"model": "gemma-3-270m", "max_tokens": 16, "temperature": 0}
SITE = {"name": "cellar", "pue": 1.25, "carbon_g_per_kwh": 300.0, "usd_per_kwh": 0.2}


def ask(platform, number):
    body = {**BODY, "prompt": f"The {number} rivers of Europe are:"}
    return platform.ask("POST", "/v1/completions", body).headers["x-request-id"]


def ledger(data_dir, *flags):
    result = CliRunner().invoke(main, ["ledger", "--data-dir", str(data_dir), "--json", *flags])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.engine
def test_the_ledger_sums_to_the_meters_across_a_crash(tmp_path, weights):
    with running_platform(tmp_path, {"site": SITE}, limit_s=90, weights=weights) as platform:
        with ThreadPoolExecutor(4) as askers:
            tickets = list(askers.map(lambda number: ask(platform, number), range(4)))
        eventually(lambda: ledger(platform.data_dir)["rows"][0]["unmetered_requests"] == 0, 30)
        ask(platform, "last")
        platform.process.kill()
        platform.process.wait(10)
    killed = ledger(platform.data_dir)
    assert "open" not in {one["account"] for one in killed["nobodys"]}
    with running_platform(tmp_path, {"site": SITE}, limit_s=90) as platform:
        ask(platform, "first")
        assert platform.stop() == 0
    for by in ("tenant", "model", "region", "day"):
        said = ledger(platform.data_dir, "--by", by)
        told = sum(row["energy_joules"] or 0.0 for row in said["rows"] + said["nobodys"])
        assert said["difference_joules"] == 0.0
        assert told == pytest.approx(said["metered_joules"], rel=1e-9)
    assert said["metered_joules"] > killed["metered_joules"] > 0.0
    assert {row["region"] for row in ledger(platform.data_dir, "--by", "region")["rows"]} >= {"cellar"}
    with Store(platform.data_dir) as store:
        entered = store.energy_by_request(0.0)
        for ticket in tickets:
            journey = store.journey(ticket)
            assert entered[ticket].microjoules == pytest.approx(journey.energy.joules * 1e6, abs=5)
            assert entered[ticket].figures["carbon_location_g"] == journey.energy.carbon["location"].value
