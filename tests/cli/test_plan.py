"""``underlay plan``: what it takes, what it prints, how it fails."""

import json

import pytest

from underlay.cli import _plan_options
from underlay.twin.plan import scene

SMALL = (
    "plan", "llama-3.1-8b", "--rate", "40", "--peak", "60", "--prompt-tokens", "600~0.5", "--output-tokens", "100~0.5",
    "--region", "azure/westus2", "--accelerator", "h100-sxm", "--parallelism", "tp1", "--precision", "bf16",
    "--tpot", "30ms",
)  # fmt: skip


def test_a_plan_is_told_with_its_band_and_what_it_rests_on(underlay):
    done = underlay(*SMALL, "--samples", "6", "--explain")
    assert done.exit_code == 0, done.stderr
    for said in (
        "azure/westus2  h100-sxm",
        "TTFT 2 s and TPOT 30 ms for 99 % of all requests; least cost",
        "power at the feeders, at the peak",
        "of 6 draws",
        "proven to within",
        "list prices of 2026",
        "left out",
    ):
        assert said in done.stdout
    assert "warning:" not in done.stdout


def test_programs_get_everything_with_units_and_methods(underlay):
    done = underlay(*SMALL, "--samples", "6", "--json", "--quiet")
    told = json.loads(done.stdout)
    assert (told["command"], told["model"], told["search"]["status"]) == ("plan", "llama-3.1-8b", "optimal")
    figures = {figure["name"]: figure for figure in told["figures"]}
    assert {"peak_w", "usd_per_mtok", "carbon_t_per_year", "replicas", "ttft_p99_s"} <= set(figures)
    assert all(figure["method"] in ("calibrated", "modelled", "assumed") for figure in figures.values())
    assert all(figure["low"] <= figure["high"] for figure in figures.values())
    assert told["pools"][0]["replicas"] == figures["replicas"]["value"]
    assert json.loads(underlay(*SMALL, "--samples", "6", "--json", "--quiet").stdout) == told


def test_a_plan_is_written_as_a_scenario_and_verified(underlay, home, monkeypatch):
    monkeypatch.setattr(scene, "_SPAN_S", (20.0, 20.0))
    done = underlay(*SMALL, "--samples", "0", "--verify", "--scenario", "plan.yaml", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert "keeps the promise" in done.stdout
    assert "azure-westus2-h100-sxm-tp1-bf16" in done.stdout
    checked = underlay("twin", "run", "plan.yaml", "--for", "2s", "--no-report", "--quiet", "--jobs", "1")
    assert checked.exit_code == 0, checked.stderr
    assert not (home / "plan.yaml").read_text().count("&id")


def test_the_load_may_be_a_trace_or_a_scenario(underlay):
    rest = [*SMALL[1:2], *SMALL[10:], "--samples", "0", "--json", "--quiet"]
    traced = json.loads(underlay("plan", *rest, "--trace", "azure-2023-conv", "--growth", "2").stdout)
    assert traced["load"]["mean_per_s"] == pytest.approx(2 * 5.5, rel=0.05)
    assert traced["load"]["peak_per_s"] > traced["load"]["mean_per_s"]
    asked = underlay("plan", "--load", "three-regions-day", "--samples", "0", "--json", "--quiet",
                     "--accelerator", "b200-sxm")  # fmt: skip
    told = json.loads(asked.stdout)
    assert told["model"] == "llama-3.1-405b"
    assert told["slo"]["ttft_s"] == 3.0
    assert {flow["client"] for flow in told["flows"]} == {"azure/westus2", "azure/westeurope", "azure/japaneast"}


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--tpot", "1ms"), 1, "one sequence alone, the TPOT is 1 ms"),
        (("--available", "h100-sxm=0"), 1, "the 0 x h100-sxm that there are; without it the best plan takes 8 x"),
        (("--client", "azure/japaneast", "--max-rtt", "20ms"), 1, "azure/japaneast: the nearest region"),
        (("--region", "azure/eastu"), 3, "did you mean azure/eastus"),
        (("--accelerator", "h100-sx"), 3, "did you mean h100-sxm"),
        (("--region", "azure/eastus,powr=2MW"), 2, "did you mean power?"),
        (("--ttft", "2 parsecs"), 2, "is not a length of time"),
        (("--price", "h100-sxm"), 2, "has no number"),
        (("--survive-region",), 1, "name two or more"),
        (("--scenario", "no/such/folder.yaml"), 2, "cannot be written"),
    ],
)
def test_what_cannot_be_is_told_with_what_to_do(underlay, more, code, said):
    done = underlay(*SMALL, "--samples", "0", *more)
    assert done.exit_code == code
    assert said in done.stderr
    assert done.stdout == ""


def test_what_is_missing_is_asked_for(underlay):
    for arguments, said in (
        (("--rate", "1", "--region", "azure/westus2"), "which model?"),
        (("llama-3.1-8b", "--rate", "1"), "in which regions?"),
        (("llama-3.1-8b", "--region", "azure/westus2"), "what load?"),
        (("llama-3.1-8b", "--trace", "azure-2023-conv", "--load", "one-site"), "not both"),
    ):
        done = underlay("plan", *arguments)
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


def test_an_error_is_an_object_for_programs(underlay):
    done = underlay(*SMALL, "--tpot", "1ms", "--json", "--quiet")
    assert json.loads(done.stderr)["error"]["code"] == "nothing_fits"


def test_values_as_people_write_them():
    assert _plan_options.span_s("800ms") == 0.8
    assert _plan_options.span_s("2") == 2.0
    assert _plan_options.spread("1200~1.5") == (1200.0, 1.5)
    assert _plan_options.spread("250") == (250.0, 1.0)
    assert _plan_options.weighted("azure/uksouth=3") == ("azure/uksouth", 3.0)
    assert _plan_options.region("azure/uksouth, power=2MW, share=0.5") == {
        "name": "azure/uksouth", "power_cap_w": 2e6, "share_max": 0.5,
    }  # fmt: skip
