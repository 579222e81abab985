"""Crowds that do not know how, whom or when to ask."""

import pytest

TWO = "world: {regions: [{name: west, like: azure/westeurope, clients: 0}, {name: east, like: azure/eastus}]}\n"


@pytest.mark.parametrize(
    ("crowd", "setting", "said"),
    [
        ("{}", "", "say when they call: by one of trace, clients, journal and arrivals, not none of them"),
        ("{trace: azure-2023-conv, arrivals: {rate_per_s: 1}}", "", "not trace and arrivals"),
        ("{trace: azure-2023-con}", ".trace.name", "no trace is called 'azure-2023-con'; did you mean"),
        ("{trace: {path: none.csv}}", ".trace", "There is no trace"),
        ("{trace: {speed: 2}}", ".trace", "say the name of a trace or the path to one"),
        ("{trace: {name: azure-2023-conv, start: 2 h}}", ".trace.start", "has no calls from 7200"),
        (
            "{trace: {name: azure-2023-conv, speed: 2, mean_rate_per_s: 1}}",
            ".trace",
            "speed or mean_rate_per_s, not both",
        ),
        ("{trace: azure-2023-conv, prompt_tokens: 3}", ".prompt_tokens", "goes with arrivals; trace has its own"),
        ("{arrivals: {rate_per_s: 1}, prompt_tokens: 3}", "", "output_tokens is missing"),
        (
            "{arrivals: {rate_per_s: 1}, prompt_tokens: {mean: 9, low: 5, high: 3}, output_tokens: 1}",
            ".prompt_tokens",
            "low must be from 0 up to high",
        ),
        ("{clients: {name: m-large, start: 999 h}}", ".clients.start", "Nobody of m-large calls from"),
        ("{arrivals: {rate_per_s: 1}, lengths: {path: none.csv}}", ".lengths", "There is no trace"),
        ("{arrivals: {rate_per_s: 1}, lengths: sharegp}", ".lengths.name", "did you mean 'sharegpt'"),
        (
            "{arrivals: {rate_per_s: 1}, sessions: {}, lengths: sharegpt}",
            ".lengths",
            "question_tokens and answer_tokens",
        ),
        ("{arrivals: {rate_per_s: 1}, model: chatt}", ".model", "no model is called 'chatt'; did you mean 'chat'?"),
        ("{arrivals: {rate_per_s: 1}, region: wst}", ".region", "no region is called 'wst'; did you mean 'west'?"),
        (
            "{arrivals: {rate_per_s: 1}, tenants: [{name: a, band: hgh}]}",
            ".tenants.0.band",
            "no band is called 'hgh'",
        ),
        ("{arrivals: {rate_per_s: 1}, tenants: [{name: a}, {name: a}]}", "", "two tenants have the same name"),
        (
            "{arrivals: {rate_per_s: 1, over_time: [{factor: 3, at: 11 min, lasts: 1 min}]}}",
            ".arrivals.over_time.0.at",
            "the run is over at 600 s",
        ),
        (
            "{arrivals: {rate_per_s: 1, start: 9 min, stop: 8 min}}",
            ".arrivals",
            "start_s must be from 0 up to stop_s",
        ),
        ("{clients: m-larg}", ".clients", "did you mean 'm-large'"),
        ("{clients: m-large, tenants: [{name: a}]}", ".tenants", "each of the clients is a tenant already"),
    ],
)
def test_a_crowd_that_cannot_be(refused, crowd, setting, said):
    found = refused(TWO, f"crowds:\n  - {crowd}\n")
    assert [(where.split(":")[1], named) for where, named, _ in found] == [("3", f"crowds.0{setting}")]
    assert said in found[0][2]


def test_a_broken_line_of_a_trace_is_shown_where_it_is(refused, tmp_path):
    (tmp_path / "mine.csv").write_text("arrived_s,prompt_tokens,output_tokens\n0,5,5\n1,many,5\n")
    for crowd, place, named in (
        ("{trace: {path: mine.csv}}", "1:18", "trace"),
        ("{arrivals: {rate_per_s: 1}, lengths: {path: mine.csv}}", "1:47", "lengths"),
    ):
        where, setting, said = refused("", f"crowds: [{crowd}]\n")[0]
        assert (where, setting) == (f"s.yaml:{place}", f"crowds.0.{named}")
        assert "mine.csv:3:3: prompt_tokens is 'many', not a whole number" in said


def test_nobody_anywhere(refused):
    found = refused("world: {regions: [{name: west, clients: 0}]}\n")
    assert found[0][2] == "no region has clients: give one some, or say where these callers are"
