"""A real engine under several requests at once: what they took, what is nobody's and what is open is the meter."""

from __future__ import annotations

import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.live.wire import eventually
from tests.support.platform import running_platform

from underlay.live.store import Store

BODY = {"model": "gemma-3-270m", "max_tokens": 24, "temperature": 0}
SITE = {"pue": 1.25, "carbon_g_per_kwh": 300.0, "usd_per_kwh": 0.2, "usd_per_accelerator_hour": 0.05}


def metrics(platform) -> dict[str, float]:
    """The sums of all series of a name."""
    sums: dict[str, float] = {}
    asked = urllib.request.Request(
        f"{platform.console_url}/metrics", headers={"authorization": f"Bearer {platform.key}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as reply:
        told = reply.read().decode()
    for line in told.splitlines():
        if line and not line.startswith("#"):
            name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
            sums[name] = sums.get(name, 0.0) + value
    return sums


def ask(platform, number):
    body = {**BODY, "prompt": f"The {number} rivers of Europe are:"}
    return platform.ask("POST", "/v1/completions", body).headers["x-request-id"]


@pytest.mark.engine
def test_a_run_closes_to_within_what_the_meter_may_be_off_by(tmp_path, weights):
    with running_platform(tmp_path, {"site": SITE}, limit_s=90, weights=weights) as platform:
        eventually(lambda: metrics(platform).get("underlay_energy_metered_joules_total") is not None, 10)
        time.sleep(2.0)  # until caches are warm, so that what is read from here on is the requests'
        before = metrics(platform)
        with ThreadPoolExecutor(6) as askers:
            tickets = list(askers.map(lambda number: ask(platform, number), range(6)))

        def settled():
            journeys = [platform.journey(ticket) for ticket in tickets]
            return journeys if all(j["energy"]["status"] == "settled" for j in journeys) else None

        journeys = eventually(settled, 20)
        after = metrics(platform)
        gained = {name: after[name] - before.get(name, 0.0) for name in after if name.startswith("underlay_energy")}
        requests_j = sum(journey["energy"]["joules"] for journey in journeys)
        off_j = sum(journey["energy"]["uncertainty_joules"] for journey in journeys)
        accounts_j = gained["underlay_energy_account_joules_total"] + gained["underlay_energy_open_joules"]
        assert accounts_j == pytest.approx(gained["underlay_energy_metered_joules_total"], rel=1e-9)
        assert requests_j <= accounts_j + 1e-9
        # The meter itself, read beside the accounts, whose windows end a little earlier.
        assert accounts_j == pytest.approx(gained["underlay_energy_joules_total"], abs=off_j)
        for journey in journeys:
            energy = journey["energy"]
            hops_j = sum(hop["joules"] for hop in journey["hops"] if hop["joules"] is not None)
            assert hops_j == pytest.approx(energy["joules"])
            assert energy["carbon"]["location"]["value"] == pytest.approx(energy["joules"] * 1.25 / 3.6e6 * 300.0)
            assert energy["accounts"]["overhead"] == pytest.approx(0.25 * energy["joules"])
            assert energy["cost"].keys() == {"accelerator", "electricity", "overhead"}
            assert energy["margin"]["value"] < float(journey["money_usd"])
        assert after["underlay_carbon_grams_total"] > 0.0
        assert after["underlay_infrastructure_usd_total"] > 0.0
        last = ask(platform, "last")
        assert platform.stop() == 0
        with Store(platform.data_dir) as store:
            stored = store.journey(last)
            assert stored.energy.status == "settled"  # though its window was not over
            assert stored.energy.joules > 0.0
            assert stored.energy.accounts["busy"] > 0.0
