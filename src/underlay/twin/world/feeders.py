"""What did every place draw since it was last asked, and where did it go?

Joules are carried from the servers up to the feeders, cooling is added by what is hot inside and outside, and the
book is written. What places drew is gathered until it is averaged. Refused here: caps, faults, appointments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from underlay.domain.figures import JOULES_KWH, Method
from underlay.twin.records import Account
from underlay.twin.world import energy_book as book
from underlay.twin.world.energy_book import EnergyBook
from underlay.twin.world.place_book import PlaceBook, PlaceLevel
from underlay.twin.world.power_tree import Climb, Floats, PowerNode, PowerTree, summed
from underlay.twin.world.servers import Equipment, Servers, Used
from underlay.twin.world.site_supply import SiteState, SiteSupply
from underlay.twin.world.topology import LEVELS, Level


class Feeders:
    """All sites and what hangs on them. ``watts`` are by level, averaged over the last ``average``.

    ``movable_w`` is what of each server's power goes with the clocks, ``capacity_w`` what heat each site could
    carry off. ``supplies`` are by the paths of sites. Errors: KeyError for a site without one; ValueError for no
    tree.
    """

    __slots__ = (
        "_at",
        "_gathered",
        "_movable",
        "_since",
        "book",
        "busy_method",
        "capacity_w",
        "halls_on",
        "it_w",
        "movable_w",
        "places",
        "servers",
        "sites",
        "tree",
        "watts",
    )

    def __init__(
        self,
        nodes: Sequence[PowerNode],
        equipment: Sequence[Equipment],
        supplies: Mapping[str, SiteSupply],
        at: float,
    ) -> None:
        self.tree = tree = PowerTree(nodes)
        self.servers = Servers(equipment)
        peaks_w = tree.sum_servers("site", self.servers.peak_w)
        self.sites = [
            SiteState(supplies[path], float(peak)) for path, peak in zip(tree.paths["site"], peaks_w, strict=True)
        ]
        self.book = EnergyBook(len(self.sites))
        self.places = PlaceBook(tree.counts["rack"], tree.counts["hall"])
        self.busy_method: Method = "calibrated"
        self.halls_on = np.ones(tree.counts["hall"], dtype=np.bool_)
        self.watts: dict[Level, Floats] = {level: np.zeros(tree.counts[level]) for level in LEVELS}
        self.it_w = np.zeros(len(self.sites))
        self.movable_w = np.zeros(len(equipment))
        self.capacity_w = np.full(len(self.sites), np.inf)
        self._at = self._since = at
        self._forget()
        self._set_losses()
        self._set_known()

    def settle(self, at: float) -> None:
        """Write everything that was drawn up to now; meanwhile nothing went off or on."""
        seconds = at - self._at
        if seconds <= 0.0:
            return
        used = self.servers.use(at, seconds)
        climb = self.tree.climb(used.total, seconds, self.halls_on)
        self._write_leaves(used, climb)
        feeder = self._cool(climb.site_load, self.tree.sum_servers("site", used.total), seconds)
        gathered = (self.tree.sum_sites(feeder), feeder, climb.hall_load, climb.rack_load, used.total)
        for level, joules in zip(LEVELS, gathered, strict=True):
            self._gathered[level] += joules
        self._movable += used.movable
        self._at = at
        self.book.mark(at)

    def average(self) -> bool:
        """Turn what was gathered since the last time into watts; whether any time has passed."""
        seconds = self._at - self._since
        if seconds <= 0.0:
            return False
        self.watts = {level: joules / seconds for level, joules in self._gathered.items()}
        self.it_w = self.tree.sum_servers("site", self.watts["server"])
        self.movable_w = self._movable / seconds
        self._since = self._at
        self._forget()
        return True

    def whole_w(self, level: Level, place: int) -> float:
        """What a place may draw: its cap, or all that stands in it at its peak with the last overhead."""
        cap_w = float(self.tree.caps_w[level][place])
        if np.isfinite(cap_w):
            return cap_w
        plugs_w = float(self.tree.sum_servers(level, self.watts["server"])[place])
        overhead = float(self.watts[level][place]) / plugs_w if plugs_w else 1.0
        return float(self.tree.sum_servers(level, self.servers.peak_w)[place]) * overhead

    def accounts(self) -> list[Account]:
        """The totals of every region and of everywhere, up to what was settled."""
        self.check()
        methods = self.methods()
        regions = self.tree.parents["site"].tolist()
        return self.book.accounts(self.tree.paths["region"], regions, methods)

    def place_accounts(self, down_to: PlaceLevel) -> list[Account]:
        """The totals of every site, and of its halls and racks if they are asked for, up to what was settled."""
        return list(self.places.accounts(self.tree, self.book, down_to, self.busy_method))

    def methods(self) -> dict[int, list[Method]]:
        """How the columns of the book are known, by column and site."""
        supplies = [state.supply for state in self.sites]
        methods: dict[int, list[Method]] = {kind: ["modelled"] * len(supplies) for kind in range(len(book.KINDS))}
        methods[book.BUSY] = [self.busy_method] * len(supplies)
        methods[book.IDLE] = ["assumed"] * len(supplies)
        methods[book.COOLING] = [one.plant.method if one.plant else "assumed" for one in supplies]
        methods[book.CARBON] = [one.carbon.method if one.carbon else "assumed" for one in supplies]
        return methods

    def check(self) -> None:
        """Every joule between servers and feeders is on one account. Raises ``AssertionError``."""
        self.book.check()
        self.places.check(self.tree, self.book)

    def sample(self) -> dict[str, float]:
        """Watts, PUE and temperatures of the last average, by names such as ``west.power_w``."""
        found: dict[str, float] = {}
        levels: tuple[tuple[Level, Floats], ...] = (
            ("region", self.tree.sum_sites(self.it_w)),
            ("site", self.it_w),
        )
        for level, it_w in levels:
            for path, watts, it in zip(self.tree.paths[level], self.watts[level], it_w, strict=True):
                found[f"{path}.power_w"] = float(watts)
                found[f"{path}.pue"] = float(watts / it) if it else float("nan")
        for path, state in zip(self.tree.paths["site"], self.sites, strict=True):
            found[f"{path}.outside_c"] = state.outside_c
            found[f"{path}.inlet_c"] = state.inlet_c
        return found

    def _forget(self) -> None:
        self._gathered: dict[Level, Floats] = {level: np.zeros(self.tree.counts[level]) for level in LEVELS}
        self._movable = np.zeros(len(self.servers.peak_w))

    def _write_leaves(self, used: Used, climb: Climb) -> None:
        tree, add = self.tree, self.book.add
        add(book.BUSY, tree.sum_servers("site", used.busy))
        add(book.IDLE, tree.sum_servers("site", used.idle))
        add(book.HOST, tree.sum_servers("site", used.host))
        add(book.ACTIVE, tree.sum_servers("site", used.host_active))
        add(book.HOURS, tree.sum_servers("site", used.computed_s))
        self.places.add([tree.sum_servers("rack", part) for part in used[:4]], climb)
        add(book.IT, tree.sum_servers("site", used.total))
        of_hall = tree.parents["hall"]
        lost = summed(of_hall[tree.parents["rack"]], climb.rack_loss, len(self.sites))
        lost += summed(of_hall, climb.hall_loss, len(self.sites))
        add(book.CHAIN, lost + tree.sum_servers("site", used.supply))

    def _cool(self, heat_j: Floats, it_j: Floats, seconds: float) -> Floats:
        """Cool all sites, write what that and the grid make of it, and say what their feeders delivered."""
        middle_at = self._at + 0.5 * seconds
        cooled = [
            state.cool(middle_at, seconds, float(heat), float(it))
            for state, heat, it in zip(self.sites, heat_j, it_j, strict=True)
        ]
        joules = np.array([one.joules for one in cooled])
        self.capacity_w = np.array([one.capacity_w for one in cooled])
        feeder: Floats = heat_j + joules
        kwh = feeder / JOULES_KWH
        of = [state.supply for state in self.sites]
        add = self.book.add
        add(book.COOLING, joules)
        add(book.FEEDER, feeder)
        add(book.WATER_ON, np.array([one.water_l for one in cooled]))
        add(book.CARBON, kwh * np.array([one.carbon.at(middle_at) if one.carbon else 0.0 for one in of]))
        add(book.PRICE, kwh * np.array([one.price.at(middle_at) if one.price else 0.0 for one in of]))
        add(book.WATER_OFF, kwh * np.array([one.generation_water_l_kwh or 0.0 for one in of]))
        return feeder

    def _set_losses(self) -> None:
        tree = self.tree
        chains = [state.supply.chain for state in self.sites]
        of_hall = [chains[site] for site in tree.parents["hall"]]
        rated_w = np.minimum(tree.sum_servers("hall", self.servers.peak_w), tree.caps_w["hall"])
        tree.hall_share = np.array([chain.hall.share for chain in of_hall])
        tree.hall_fixed_w = rated_w * np.array([chain.hall.fixed_share for chain in of_hall])
        tree.rack_share = np.array([of_hall[hall].rack.share for hall in tree.parents["rack"]])

    def _set_known(self) -> None:
        for place, state in enumerate(self.sites):
            of = state.supply
            known = {
                book.COOLING: of.plant is not None or of.pue is not None,
                book.CARBON: of.carbon is not None,
                book.PRICE: of.price is not None,
                book.WATER_ON: of.plant is not None or of.water_l_kwh is not None,
                book.WATER_OFF: of.generation_water_l_kwh is not None,
            }
            for kind, is_known in known.items():
                self.book.known[kind, place] = is_known
