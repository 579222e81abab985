"""What a run's ledger says: lines by group, what is nobody's, and whether they close.

The sums are made in ``ledger``. Refused here: where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy.typing as npt

from underlay.domain.figures import Figure

#: How far sums may be apart: relative to them, and the joules below which nobody looks.
CLOSES, LEAST_J = 1e-9, 1e-6
#: The joules that are a request's own: those of the replicas, by account.
BUSY_ACCOUNTS = ("busy", "scheduler_waste", "failed_attempts", "abandoned_streams")


class Line(NamedTuple):
    """What one group took, or what is nobody's in a region: figures by the ledger's columns."""

    name: str
    requests: float
    figures: dict[str, Figure]

    def value(self, name: str) -> float:
        """One figure; 0 where there is none."""
        figure = self.figures.get(name)
        return 0.0 if figure is None else figure.value


@dataclass(slots=True)
class RunLedger:
    """The ledger of one run.

    ``groups`` are by tenant, model, region and band. By region: what is ``nobodys``, the joules that feeders
    (``fed_j``), busy accelerators (``busy_j``) and servers at their plugs (``it_j``) took, and ``idle_share``, of
    the time of accelerators, in which none of their steps ran.

    ``total`` is all requests, ``columns`` each of them in the order of the run's rows (none in a summary), with
    their ``bands`` by place in ``band_names``.
    """

    total: Line
    groups: dict[str, tuple[Line, ...]]
    nobodys: tuple[Line, ...]
    fed_j: dict[str, float]
    busy_j: dict[str, float]
    it_j: dict[str, float]
    idle_share: dict[str, float]
    columns: dict[str, npt.NDArray[Any]]
    bands: npt.NDArray[Any]
    band_names: list[str]

    def without_rows(self) -> RunLedger:
        """The same for whoever keeps only sums."""
        return replace(self, columns={}, bands=self.bands[:0])

    def check(self) -> None:
        """Requests and what is nobody's are what each region's feeders delivered, to 1e-9.

        So are their busy joules what its accelerators drew. Raises ``AssertionError``.
        """
        regions = {line.name: line for line in self.groups["region"]}
        for nobodys in self.nobodys:
            theirs = regions.get(nobodys.name)
            busy_j = sum(theirs.value(f"{name}_joules") for name in BUSY_ACCOUNTS) if theirs else 0.0
            _same(nobodys.name, "busy accelerators", busy_j, self.busy_j[nobodys.name])
            booked_j = busy_j + sum(figure.value for figure in nobodys.figures.values() if figure.unit == "J")
            if theirs is not None:
                booked_j += theirs.value("host_joules") + theirs.value("overhead_joules")
            _same(nobodys.name, "feeder", booked_j, self.fed_j[nobodys.name])


def _same(place: str, what: str, booked_j: float, drawn_j: float) -> None:
    assert abs(booked_j - drawn_j) <= CLOSES * abs(drawn_j) + LEAST_J, (
        f"{place}, {what}: {booked_j} J on accounts, {drawn_j} J drawn"
    )
