"""What did every rack and hall take, and does it add up to what fed it?

    rack = accelerators busy and idle, hosts, power supplies, its own losses
    hall = what its racks were fed, its own losses
    site = what its halls were fed, cooling: its feeder

Sums from the servers on the one side, what the power tree carried on the other. Refused here: grams and money.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from underlay.domain.figures import JOULES_KWH, Method
from underlay.twin.records import Account
from underlay.twin.run_ledger import CLOSES, LEAST_J
from underlay.twin.world.energy_book import COOLING, FEEDER, EnergyBook
from underlay.twin.world.power_tree import Climb, Floats, PowerTree, summed

PlaceLevel = Literal["site", "hall", "rack"]

RACK_PARTS = (
    ("accelerators_busy", "accelerators while they compute"),
    ("accelerators_idle", "accelerators that are on and wait"),
    ("host", "processors, memory, drives, network cards and fans"),
    ("power_supply_loss", "power supplies of the servers"),
    ("power_chain_loss", "between the rack's feed and its servers"),
)


class PlaceBook:
    """Joules of racks by ``RACK_PARTS``, of halls what they lost, and of both what they were fed."""

    __slots__ = ("hall_fed", "hall_lost", "rack_fed", "rack_parts")

    def __init__(self, racks: int, halls: int) -> None:
        self.rack_parts = np.zeros((len(RACK_PARTS), racks))
        self.rack_fed = np.zeros(racks)
        self.hall_lost, self.hall_fed = np.zeros(halls), np.zeros(halls)

    def add(self, of_racks: Sequence[Floats], climb: Climb) -> None:
        """A while: busy, idle, host and supply of the racks, and what was carried on."""
        self.rack_parts += [*of_racks, climb.rack_loss]
        self.rack_fed += climb.rack_load + climb.rack_loss
        self.hall_lost += climb.hall_loss
        self.hall_fed += climb.hall_load + climb.hall_loss

    def check(self, tree: PowerTree, book: EnergyBook) -> None:
        """What was fed is the sum of what it was fed to, in every place, to 1e-9. Raises ``AssertionError``."""
        of_halls = summed(tree.parents["rack"], self.rack_fed, len(self.hall_fed)) + self.hall_lost
        of_sites = summed(tree.parents["hall"], self.hall_fed, len(book.sums[FEEDER])) + book.sums[COOLING]
        for level, parts, fed in (
            ("rack", self.rack_parts.sum(axis=0), self.rack_fed),
            ("hall", of_halls, self.hall_fed),
            ("site", of_sites, book.sums[FEEDER]),
        ):
            apart = np.flatnonzero(~np.isclose(parts, fed, rtol=CLOSES, atol=LEAST_J))
            assert not len(apart), (
                f"{tree.paths[level][apart[0]]}: accounts of {parts[apart[0]]} J, fed {fed[apart[0]]} J"  # type: ignore[index]
            )

    def accounts(
        self, tree: PowerTree, book: EnergyBook, down_to: PlaceLevel, busy_method: Method
    ) -> Iterator[Account]:
        """Rows of sites, and below them of halls and racks if these are asked for."""
        for place, path in enumerate(tree.paths["site"]):
            halls = float(self.hall_fed[tree.parents["hall"] == place].sum())
            yield _row(path, "halls", halls, "modelled", "what its halls were fed")
            yield _row(path, "cooling", float(book.sums[COOLING, place]), "modelled", "of the site")
            yield _row(path, "energy_feeder", float(book.sums[FEEDER, place]), "modelled", "both")
        if down_to == "site":
            return
        for place, path in enumerate(tree.paths["hall"]):
            racks = float(self.rack_fed[tree.parents["rack"] == place].sum())
            yield _row(path, "racks", racks, "modelled", "what its racks were fed")
            yield _row(
                path, "power_chain_loss", float(self.hall_lost[place]), "modelled", "supply and distribution"
            )
            yield _row(path, "energy_fed", float(self.hall_fed[place]), "modelled", "both")
        if down_to == "hall":
            return
        methods: tuple[Method, ...] = (busy_method, "assumed", "modelled", "modelled", "modelled")
        for place, path in enumerate(tree.paths["rack"]):
            for (name, boundary), joules, method in zip(
                RACK_PARTS, self.rack_parts[:, place], methods, strict=True
            ):
                yield _row(path, name, float(joules), method, boundary)
            yield _row(path, "energy_fed", float(self.rack_fed[place]), "modelled", "all of these")


def _row(path: str, name: str, joules: float, method: Method, boundary: str) -> Account:
    return Account.of(path, name, joules / JOULES_KWH, "kWh", method, boundary)
