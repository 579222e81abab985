"""The verbs that simulate: what they print, write and return, also when they are wrong, worse or interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from pyarrow import parquet
from tests.twin.runs import queue

from underlay.cli.twin import _options, _running
from underlay.cli.twin._progress import Pace, shown
from underlay.twin.scenario import read
from underlay.twin.trials import Beat

SCENARIO = """\
name: small site
about: What do two replicas do?
duration: 30 s
seed: 4
models:
  - {name: chat, replicas: 2}
crowds:
  - {arrivals: {rate_per_s: 2}, lengths: azure-2023-conv}
"""


@pytest.fixture(autouse=True)
def plots(monkeypatch, tmp_path_factory):
    """Fonts are looked for once, not in every new home."""
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "fonts"))


@pytest.fixture
def small(home):
    (home / "small.yaml").write_text(SCENARIO)
    return "small.yaml"


@pytest.fixture
def modelled(monkeypatch):
    """A queue in place of the simulation: what is tried here is what comes before and after it."""
    seen = []

    def simulate(variant, seed, progress, stop, *, check):
        seen.append((variant, seed, check))
        settings = dict(variant.changes)
        progress(10.0, 60.0, 5)
        servers = int(settings.get("models.0.replicas", 3))
        return queue(
            seed, servers=servers, duration_s=200.0, until_s=100.0 if stop() else None, variant=variant.name
        )

    monkeypatch.setattr(_running, "simulate", simulate)
    return seen


def test_run_simulates_a_scenario_and_writes_its_report(underlay, small, home):
    done = underlay("twin", "run", small, "--for", "20s", "--requests", "rows.parquet", "--series", "series.csv")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("small site, seed 4, 20 s simulated\n")
    assert "SLO attainment" in done.stdout
    assert "TTFT" in done.stdout
    assert "report: small-site-report.html\nrequests: rows.parquet\nseries: series.csv\n" in done.stderr
    report = (home / "small-site-report.html").read_text()
    assert "small site" in report
    rows = parquet.read_table("rows.parquet").num_rows
    said = json.loads(underlay("twin", "run", small, "--for", "20s", "--json", "--no-report", "--check").stdout)
    assert said["command"] == "twin run"
    (variant,) = said["variants"]
    assert {figure["name"]: figure["value"] for figure in variant["figures"]}["requests"] == rows
    assert variant["runs"][0]["trace_hash"] in report, "equal seeds give equal hashes"
    assert not said["partial"]


def test_several_seeds_have_intervals(underlay, small, modelled):
    done = underlay("twin", "run", small, "--seeds", "3", "--seed", "7", "--jobs", "1", "--no-report")
    assert [seed for _, seed, _ in modelled] == [7, 8, 9]
    assert "queue, 3 seeds from 7, 3 min 20 s simulated" in done.stdout
    assert " ± " in done.stdout
    said = json.loads(underlay("twin", "run", small, "--seeds", "3", "--jobs", "1", "--no-report", "--json").stdout)
    figures = {figure["name"]: figure for figure in said["variants"][0]["figures"]}
    assert figures["goodput"]["low"] < figures["goodput"]["value"] < figures["goodput"]["high"]
    assert figures["energy_feeder"]["method"] == "assumed"
    assert said["files"] == {}


def test_settings_reach_the_scenario(underlay, small, modelled):
    underlay("twin", "run", small, "--set", "models.0.replicas=5", "--for", "1h", "--check", "--no-report")
    ((variant, _, check),) = modelled
    assert dict(variant.changes) == {"models.0.replicas": "5", "duration": "1h"}
    assert check
    assert read(variant.file, dict(variant.changes)).duration == 3600.0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nowhere.yaml"], 3, "no such scenario: nowhere.yaml"),
        (["one-sight"], 3, "those that come along: "),
        (["small.yaml", "--set", "models.0.replicass=5"], 5, "did you mean 'replicas'?"),
        (["small.yaml", "--set", "policies.routing=magic"], 5, "policies.routing=magic"),
        (["small.yaml", "--for", "soon"], 5, "duration=soon"),
        (["small.yaml", "--set", "nonsense"], 2, "is not a setting such as policies.routing=random"),
        (["small.yaml", "--requests", "rows.xlsx"], 2, "must end in .csv or .parquet"),
        (["small.yaml", "--series", "no/where.csv"], 2, "its folder is missing or read-only"),
        (["small.yaml", "--report", "no/where.html"], 2, "its folder is missing or read-only"),
        (["small.yaml", "--seeds", "0"], 2, "--seeds"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(underlay, small, modelled, home, arguments, code, told):
    done = underlay("twin", "run", *arguments)
    assert done.exit_code == code, done.stderr
    assert told in done.stderr
    assert done.stdout == ""
    assert modelled == []
    assert [path.name for path in home.iterdir()] == ["small.yaml"]


def test_a_mistake_in_a_file_is_shown_where_it_stands(underlay, small, home):
    (home / "small.yaml").write_text(SCENARIO.replace("rate_per_s", "rate"))
    done = underlay("twin", "run", small)
    assert done.exit_code == 5
    assert "small.yaml:8:" in done.stderr
    assert "^" in done.stderr


def test_compare_takes_differences_by_seed_and_exits_by_the_verdict(underlay, small, modelled, home):
    options = ["--seeds", "4", "--jobs", "1"]
    better = underlay("twin", "compare", small, "--with", "models.0.replicas=8", *options)
    assert better.exit_code == 0
    assert "small site  models.0.replicas=8" in better.stdout.splitlines()[2]
    assert "better" in better.stdout
    assert "queue-report.html" not in better.stderr, "reports are called like their scenario"
    assert (home / "small-site-report.html").exists()
    worse = underlay(
        "twin", "compare", small, "--with", "models.0.replicas=8", "--with", "models.0.replicas=2",
        *options, "--json", "--no-report",
    )  # fmt: skip
    assert worse.exit_code == 6
    (comparison,) = json.loads(worse.stdout)["comparisons"]
    assert comparison["second"] == "models.0.replicas=2"
    verdicts = {figure["name"]: figure["verdict"] for figure in comparison["figures"]}
    assert verdicts["goodput"] == "worse"
    assert verdicts["cost"] == "better"


def test_compare_files(underlay, small, modelled, home):
    (home / "other.yaml").write_text(SCENARIO)
    done = underlay("twin", "compare", small, "other.yaml", "--seeds", "2", "--jobs", "1", "--no-report")
    assert "small.yaml  other.yaml" in done.stdout, "of the same name: told by file"
    assert [variant.name for variant, _, _ in modelled] == ["small.yaml", "other.yaml"] * 2
    assert underlay("twin", "compare", small).exit_code == 2
    assert underlay("twin", "compare", small, "other.yaml", "--with", "seed=1").exit_code == 2


def test_sweep_runs_a_grid_and_names_the_front(underlay, small, modelled, home):
    done = underlay(
        "twin", "sweep", small, "--over", "models.0.replicas=2,6", "--over", "policies.routing=random,sticky",
        "--seeds", "2", "--jobs", "1",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    names = [
        f"models.0.replicas={replicas}, policies.routing={routing}"
        for replicas in (2, 6)
        for routing in ("random", "sticky")
    ]
    assert [variant.name for variant, _, _ in modelled] == names * 2
    assert all(name in done.stdout for name in names)
    assert "on the front" in done.stdout
    assert "Cost and latency" in (home / "small-site-report.html").read_text()
    said = underlay(
        "twin", "sweep", small, "--over", "models.0.replicas=2,6", "--seeds", "2", "--jobs", "1", "--json"
    )
    assert json.loads(said.stdout)["front"] == ["models.0.replicas=2", "models.0.replicas=6"]
    assert json.loads(said.stdout)["cost"] == "cost_per_mtok"


def test_sweep_takes_the_scenarios_own(underlay, small, modelled, home):
    assert underlay("twin", "sweep", small).exit_code == 2
    (home / "small.yaml").write_text(SCENARIO + "sweep: {models.0.replicas: [2, 4]}\n")
    assert underlay("twin", "sweep", small, "--seeds", "1", "--jobs", "1", "--no-report").exit_code == 0
    assert [variant.name for variant, _, _ in modelled] == ["models.0.replicas=2", "models.0.replicas=4"]
    wrong = underlay("twin", "sweep", small, "--over", "models.0.replicas=2,many")
    assert wrong.exit_code == 5
    assert len(modelled) == 2


def test_scenarios_that_come_along(underlay, home):
    known = json.loads(underlay("twin", "scenarios", "--json").stdout)["scenarios"]
    assert {"one-site"} <= {each["name"] for each in known}
    assert all(each["about"] and each["name"] in underlay("twin", "scenarios").stdout for each in known)
    text = underlay("twin", "scenarios", "one-site").stdout
    (home / "mine.yaml").write_text(text)
    assert read("mine.yaml").name == "one-site"
    assert json.loads(underlay("twin", "scenarios", "--schema").stdout)["title"] == "Underlay scenario"
    assert underlay("twin", "scenarios", "no-site").exit_code == 3


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_is_there_and_says_so(home, jobs):
    (home / "long.yaml").write_text(SCENARIO.replace("30 s", "30 d"))
    arguments = ["twin", "run", "long.yaml", "--seeds", "2", "--jobs", jobs, "--requests", "rows.csv", "--json"]
    environment = {**os.environ, "HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, "-m", "underlay", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment,
    ) as child:  # fmt: skip
        begun = child.stderr.readline()
        time.sleep(1.0)  # wherever that is: starting processes, reading the trace, simulating
        child.send_signal(signal.SIGINT)
        said, told = child.communicate(timeout=90)
    assert child.returncode == 130, told
    assert begun == "simulating small site for 30 d: 2 runs\n"
    assert "stopping; what is there by now is kept" in told
    assert "interrupted: 0 of 2 runs are whole" in told
    assert json.loads(said)["partial"] is True
    assert "this report is partial" in (home / "small-site-report.html").read_text()
    assert (home / "rows.csv").read_text().startswith("variant,seed,")
    assert {path.name for path in home.iterdir() if path.suffix == ".part"} == set()


def test_whoever_stops_before_anything_ran_is_told_so(underlay, small, home, monkeypatch):
    monkeypatch.setattr("underlay.twin.trials.conduct", lambda *given, **options: [])
    for verb in (["run"], ["compare", "--with", "seed=1"], ["sweep", "--over", "seed=1,2"]):
        done = underlay("twin", *verb, small)
        assert done.exit_code == 130
        assert "nothing ran" in done.stdout
        assert "interrupted: 0 of" in done.stderr
        assert "nothing ran" in (home / "small-site-report.html").read_text()


def test_settings_on_a_command_line():
    assert _options.settings("a.b=1,c=x, d=[1,2]") == (("a.b", "1"), ("c", "x"), ("d", "[1,2]"))
    assert _options.settings("a=1,2") == (("a", "1,2"),)
    assert _options.choices("a.0.b=x,[1,2],{k: 3, l: 4}") == ("a.0.b", ("x", "[1,2]", "{k: 3, l: 4}"))


def test_progress_by_simulated_time():
    pace = Pace(4, 100.0)
    assert pace.words(100.0) == "simulated 0 s, 0 of 4 runs, 0 requests/s"
    pace.tell(0, Beat(60.0, 60.0, 3000))
    pace.tell(1, Beat(30.0, 60.0, 1000))
    pace.tell(2, Beat(0.0, 0.0, 0))
    assert pace.share == pytest.approx(0.375)
    assert pace.words(110.0) == "simulated 1 min 30 s of 4 min, 1 of 4 runs, 400 requests/s, 17 s left"


def test_progress_is_a_line_now_and_then_and_nothing_if_nobody_wants_it(capsys, monkeypatch):
    now = iter([0.0, 1.0, 16.0, 17.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with shown(1, quiet=False) as watch:
        for second in (1, 2, 3):
            watch(0, Beat(10.0 * second, 60.0, 100))
    assert capsys.readouterr().err == "simulated 20 s of 1 min, 6 requests/s, 32 s left\n"
    with shown(1, quiet=True) as watch:
        assert watch is None


def test_progress_is_a_bar_where_somebody_looks(capsys, monkeypatch):
    monkeypatch.setattr("underlay.cli._says.colour", lambda stream: True)
    with shown(2, quiet=False) as watch:
        watch(0, Beat(10.0, 60.0, 100))
    capsys.readouterr()
