"""Small runs to summarise: requests through a modelled queue, with the samples and totals that a run leaves behind."""

from __future__ import annotations

import os
import time
from math import nan
from random import Random
from typing import Any

from underlay.domain.errors import BadRequest
from underlay.twin.records import COLUMNS, OUTCOMES, Account, Requests, RunResult, Series

PLACES = {"replica": "replica", "region": "region", "served_in": "region", "tenant": "tenant", "model": "model"}
SLO = {"ttft": 1.0, "tpot": 0.05}


def add(result: RunResult, arrived_s: float, ttft_s: float = nan, e2e_s: float = nan, **given: Any) -> None:
    """A row for one request; what is not given is as plain as can be."""
    requests = result.requests
    row: dict[str, Any] = {
        "arrived_s": arrived_s,
        "ttft_s": ttft_s,
        "e2e_s": e2e_s,
        "prompt_tokens": 100,
        "output_tokens": 11,
        "cached_tokens": 0,
        "attempts": 1,
        "try_": 1,
        "within_s": nan,
        "held_s": 0.0,
        **given,
    }
    row["outcome"] = OUTCOMES.index(row.get("outcome", "finished"))
    for name, kind in PLACES.items():
        row[name] = requests.place(kind, row.get(name, name))
    requests.add(*(row[column] for column in COLUMNS))


def empty(scenario: str = "empty", seed: int = 1, duration_s: float = 10.0, **more: Any) -> RunResult:
    """A run in which nothing happened."""
    fields = {"simulated_s": duration_s, "trace_hash": f"{seed:032x}", "events": 0, "slo": dict(SLO), **more}
    return RunResult(
        scenario=scenario, seed=seed, duration_s=duration_s, requests=Requests(), series=Series(), **fields
    )


def queue(
    seed: int, *, servers: int = 4, duration_s: float = 600.0, until_s: float | None = None, **more: Any
) -> RunResult:
    """A queue with a surge in the middle, two regions, cost by the server. Cut at ``until_s``, if given."""
    dice = Random(seed)
    end_s = duration_s if until_s is None else until_s
    result = empty("queue", seed, duration_s, simulated_s=end_s, partial=until_s is not None, **more)
    result.slo = dict(SLO)
    free = [0.0] * servers
    at = 0.0
    while True:
        surge = 2.0 if 0.4 < at / duration_s < 0.6 else 1.0
        at += dice.expovariate(3.0 * surge)
        tokens = dice.randint(2, 60)
        decode_s = 0.02 * tokens * dice.uniform(0.8, 1.2)
        if at >= end_s:
            break
        place = min(range(servers), key=free.__getitem__)
        begun = max(at, free[place])
        region = "west" if dice.random() < 0.7 else "east"
        names = {"region": region, "tenant": dice.choice(["acme", "<b>x&y", "zoo"]), "model": "chat"}
        if begun - at > 8.0:
            add(result, at, outcome="refused", output_tokens=0, served_in=region, **names)
            continue
        free[place] = begun + 0.1 + decode_s
        ttft_s, e2e_s = begun - at + 0.1, free[place] - at
        if at + e2e_s > end_s:
            add(result, at, outcome="open", output_tokens=0, served_in=region, **names)
        else:
            add(result, at, ttft_s, e2e_s, output_tokens=tokens, cached_tokens=40, served_in=region, **names)
        result.events += 3
    for step in range(int(end_s // 10)):
        busy = servers * (0.6 + 0.35 * (0.4 < step * 10 / duration_s < 0.6))
        result.series.add(
            step * 10.0,
            {
                "west.chat.running": busy * 0.7,
                "east.chat.running": busy * 0.3,
                "west.chat.waiting": dice.random() * 3,
                "east.chat.waiting": dice.random(),
                "west.utilisation": min(1.0, busy / servers),
                "east.utilisation": min(1.0, 0.8 * busy / servers),
                "west.power_w": 4000 + 500 * busy,
                "east.power_w": 2000 + 200 * busy,
            },
        )
    joules = 6000.0 * end_s + 700 * servers * end_s
    result.accounts = [
        *(
            Account.of(place, name, joules * part * share / 3.6e6, "kWh", method, "by part")
            for place, part in (("west", 0.6), ("east", 0.4), ("", 1.0))
            for name, share, method in (
                ("accelerators_busy", 0.5, "modelled"),
                ("accelerators_idle", 0.1, "assumed"),
                ("host", 0.2, "modelled"),
                ("power_chain_loss", 0.08, "modelled"),
                ("cooling", 0.12, "modelled"),
                ("energy_it", 0.8, "modelled"),
                ("energy_feeder", 1.0, "assumed"),
            )
        ),
        Account.of("", "carbon", joules / 3.6e6 * 300, "gCO2e", "assumed"),
        Account.of("", "accelerators_cost", servers * 3.0 * end_s / 3600, "USD", "assumed", "hire"),
        Account.of("", "electricity_cost", joules / 3.6e6 * 0.1, "USD", "assumed", "feeder energy"),
    ]
    result.warnings = ["The profile of <chat> is extrapolated beyond a batch of 128."]
    result.happenings = [(0.4 * duration_s, "surge begins"), (0.6 * duration_s, "surge <ends>")]
    return result


class Odd(Exception):
    """An error that no other process can make again from its words."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"odd: {first + second}")


def run(variant: Any, seed: int, progress: Any, stop: Any) -> RunResult:
    """A run of a minute, as ``trials`` makes them in other processes too; some files are called for what goes wrong."""
    progress(30.0, 60.0, 100)
    if variant.file == "endless.yaml":
        while not stop():
            time.sleep(0.005)
        return queue(seed, duration_s=60.0, until_s=20.0)
    if variant.file == "wrong.yaml":
        raise BadRequest("no such thing", param="world")
    if variant.file == "odd.yaml":
        raise Odd(1, 2)
    if variant.file == "lost.yaml":
        os._exit(9)
    return queue(seed, servers=dict(variant.changes)["servers"], duration_s=60.0)
