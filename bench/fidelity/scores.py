"""The page on which the twin's figures stand beside everybody else's, also where it loses.

``bench/fidelity/run --write-scores`` writes it. Its numbers change when the model does; its form is tested.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fidelity import anchors, refit, serving, vidur
from fidelity import runs as measured

from underlay.physics import profiles

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/twin-scores.md"
COLUMNS = ("Anchor", "Published", "Twin", "Off", "Method")
HEAD = """\
# The twin's scores

What others measured or published, and what the twin says of the same. Written by
`bench/fidelity/run --write-scores`; do not edit. *Off* is the relative error of the twin, with its sign where there
is one number on each side, without where it is a median over runs. *Method* is that of the twin's step times:
`calibrated`, `modelled` or `assumed`, as `underlay.physics.profiles` explains.
"""
#: Anchors that the model of one engine says nothing of, and why there is no number yet.
NOT_ATTEMPTED = (
    ("Vidur's paper: the best set-up for Llama 2 70B, found in an hour", "its cost tables are not at hand"),
    ("Splitwise: 1.4 times the throughput at 20 % lower cost", "prefill and decoding apart are not modelled"),
    ("DistServe: 7.4 times the requests, 12.6 times tighter targets", "the same; OPT models have no profile"),
    ("Sarathi-Serve: 2.6 to 6.9 times the capacity", "the engines it is compared with are not modelled"),
    ("Mooncake: +59 to +498 % effective capacity", "pools of KV memory across servers are not modelled"),
    ("DynoSim: prefix reuse 0.38 to 0.45, cliff at cold starts of 180 s", "belongs to the bench of policies"),
    ("SageServe: a quarter fewer accelerator hours", "its requests are not public"),
    ("POLCA: 30 % more servers under the same power", "its traces are not public"),
    ("Google: 0.24 Wh for a median prompt, and the shares of it", "model and accelerators are not public"),
    ("OpenDT: 4.4 % error in power, calibrated on line", "a live meter of a whole site is not at hand"),
    ("MLPerf: Llama 3.1 405B, DeepSeek-R1, server scenarios", "the lengths of their prompts are not at hand"),
)


class Section(NamedTuple):
    """A table of the page."""

    title: str
    note: str
    rows: tuple[tuple[str, ...], ...]


def write() -> None:
    """Reckon everything and write the page."""
    PAGE.write_text(render(sections()), encoding="utf-8")


def render(tables: Iterable[Section]) -> str:
    """The page."""
    parts = [HEAD]
    for table in tables:
        lines = [f"## {table.title}", "", table.note, "", _line(COLUMNS), _line("---" for _ in COLUMNS)]
        parts.append("\n".join([*lines, *(_line(row) for row in table.rows)]) + "\n")
    lines = ["## Not attempted", "", "Nobody should take silence for success.", ""]
    parts.append(
        "\n".join([*lines, _line(("Anchor", "Why")), _line(("---", "---")), *map(_line, NOT_ATTEMPTED)]) + "\n"
    )
    return "\n".join(parts)


def sections() -> list[Section]:
    """All tables, reckoned."""
    return [_real_runs(), _silicon(), _reference(), _prompts_and_batches(), _gaps(), _throughput()]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _real_runs() -> Section:
    note = (
        "Two runs of vLLM 0.19, 300 requests of ShareGPT at 10 a second, replayed request for request."
        " Fitted with them in view: 1 ms of host time in each step, for both (`0 ms`: without it)."
        " LLMServingSim reports of the same runs, in this order of measures: +0.6, +0.6, +0.3, +0.2, +0.5"
        " % (RTX 4090) and -4.0, -4.4, -2.0, -1.0, -1.8 % (RTX PRO 6000); it is nearer."
    )
    rows = []
    for (accelerator, model), rules in serving.RUNS.items():
        for host_s in (None, 0.0):
            real, ours = serving.replay(accelerator, model, rules, host_s)
            beside = "" if host_s is None else ", 0 ms"
            for name, was, said in serving.statistics_of(real, ours):
                rows.append(_row(f"{accelerator} {name}{beside}", was, said, "s", "calibrated"))
    return Section("Real runs, request for request", note, tuple(rows))


def _silicon() -> Section:
    held_out, left_out = refit.fitted_to(), [run for run in measured.read() if not run.possible]
    note = (
        "Time per output token at a fixed number of requests under vLLM, from the silicon sample of"
        " aiconfigurator, against the steady state of the formula, without a simulation: the median error"
        f" of each group. Of {len(measured.read())} runs {len(held_out)} were fitted to and are not"
        f" scored, and {len(left_out)} cannot be what they say (their prompts would have been computed"
        " beyond the published peak). Fitted to the rest: 0.5 ms of host time on Hopper."
    )
    known = {refit.key(line): line for line in profiles.lines().values() if line.engine == "vllm"}
    errors = measured.scored({name: line.coefficients() for name, line in known.items()}, held_out)
    rows = [_median(" ".join(name), group, known[name].method) for name, group in sorted(errors.items())]
    rows.append(_median("all groups", [error for group in errors.values() for error in group], ""))
    return Section("Silicon sample", note, tuple(rows))


def _reference() -> Section:
    note = (
        "One replica of Llama 3 8B on an A100 under Vidur's Sarathi scheduler, 2,048 requests, with"
        " Vidur's own costs: this compares the rules, not the hardware. Vidur itself is a model, too."
    )
    rows = tuple(_row(one.name, one.theirs_s, one.ours_s, "s", "modelled") for one in vidur.compared())
    return Section("Vidur, with its costs", note, rows)


def _prompts_and_batches() -> Section:
    note = (
        "The table of Splitwise (ISCA 2024): Llama 2 70B over eight accelerators, under the engine of"
        " 2023. Ours is Llama 3.1 70B under vLLM of 2025 and 2026, so it should be quicker, most of all"
        " where the host took the time; by how much is not known."
    )
    return Section("Splitwise, prompts and batches", note, tuple(_row(*anchor) for anchor in anchors.splitwise()))


def _gaps() -> Section:
    note = (
        "Median time between tokens in the chat runs of the ML.ENERGY Leaderboard 3.0 against a step that"
        f" only decodes, with {anchors.MLENERGY_CONTEXT} tokens of context each (assumed; the leaderboard"
        " does not say). There some 0.05 ms more went by for each sequence in the batch, whatever the"
        " model: work of engine or client on the host, which our profiles do not have. Here the twin is"
        " too quick by up to a half; `underlay calibrate` finds such time on the engine at hand."
    )
    return Section("ML.ENERGY, time between tokens", note, tuple(_row(*anchor) for anchor in anchors.mlenergy()))


def _throughput() -> Section:
    note = (
        "MLPerf Inference 5.1, closed, offline, the best of each accelerator, against the modelled engine"
        " with 3,000 requests at once. Prompts of 300 tokens (Llama 2 70B, as Llama 3.1 70B) and 870"
        " (Llama 3.1 8B), outputs of 128 for the latter, are assumed; 294 output tokens are in the rules."
        " Those results come from engines tuned for months, on B200 in 4 bits (ours: 8); ours is vLLM as"
        " it is."
    )
    return Section("MLPerf, throughput", note, tuple(_row(*anchor) for anchor in anchors.mlperf()))


def _median(name: str, errors: list[float], method: str) -> tuple[str, ...]:
    runs = f"{len(errors)} run{'s' * (len(errors) > 1)}"
    return (f"{name}, {runs}", "", "", f"{100 * statistics.median(errors):.1f} %", method)


def _row(name: str, was: float, said: float, unit: str, method: str) -> tuple[str, ...]:
    return (name, f"{_number(was)} {unit}", f"{_number(said)} {unit}", f"{100 * (said / was - 1):+.1f} %", method)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
