"""Where did the energy of a prompt go, in the four parts that Google published its breakdown in?

Active accelerators, active hosts (processors and memory), idle provisioned machines, and the overhead of the data
centre: 0.14, 0.06, 0.02 and 0.02 Wh of the median Gemini Apps text prompt in May 2025 (arXiv 2508.15734). The
ledger's accounts go into these without a rest: what hosts draw whatever their accelerators do belongs to active
machines for the share of the time in which these compute, and to idle ones for the rest; what power supplies lose
is part of the machines, as PUE is of servers at their plugs.

All of a run is told by the prompt, also what failed and what is nobody's. Refused here: other boundaries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from underlay.twin.run_ledger import BUSY_ACCOUNTS, RunLedger


class Breakdown(NamedTuple):
    """Joules by part; together what the feeders delivered."""

    accelerators: float
    host: float
    idle: float
    overhead: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.accelerators + self.host + self.idle + self.overhead

    def shares(self) -> dict[str, float]:
        """Each part of the whole; nothing where nothing was drawn."""
        return {name: value / self.total for name, value in self._asdict().items()} if self.total else {}


def breakdown(ledger: RunLedger) -> Breakdown:
    """The four parts of a run."""
    idle = {line.name: line.value("host_shared_joules") * ledger.idle_share[line.name] for line in ledger.nobodys}
    shared = sum(line.value("host_shared_joules") for line in ledger.nobodys)
    busy = sum(ledger.total.value(f"{account}_joules") for account in BUSY_ACCOUNTS)
    hosts = ledger.total.value("host_joules") + shared - sum(idle.values())
    unused = sum(line.value("idle_provisioned_joules") for line in ledger.nobodys) + sum(idle.values())
    plugs, machines = sum(ledger.it_j.values()), busy + hosts + unused
    supplied = plugs / machines if machines else 1.0
    overhead = sum(ledger.fed_j.values()) - plugs
    return Breakdown(busy * supplied, hosts * supplied, unused * supplied, overhead)


def median_prompt(ledger: RunLedger) -> tuple[float, float]:
    """The median request in joules: of busy accelerators alone, and of everything.

    What is nobody's goes by the joules of those who were served. Needs the ledger with its rows.
    """
    columns = ledger.columns
    narrow = sum(
        (columns[f"{account}_joules"] for account in BUSY_ACCOUNTS), np.zeros(len(columns["energy_joules"]))
    )
    theirs = columns["energy_joules"] + columns["overhead_joules"]
    whole = theirs * (sum(ledger.fed_j.values()) / theirs.sum())
    return float(np.median(narrow)), float(np.median(whole))
