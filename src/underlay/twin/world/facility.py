"""What does everything that stands somewhere draw, and what happens where that is too much?

Every ``tick_s`` the energy since the last tick is collected from all replicas and carried up the tree: servers
with their hosts, racks, halls with their supplies, cooling by what is hot inside and outside, the feeder. What a
grid makes of it in carbon, water and money is written into the book. Places over their cap, and sites too hot,
have the replicas under them slowed down; sites that get hotter still shut down, as hardware protects itself.

A tick reads and never decides anything about requests: replicas are slowed and cut off through ``Hands``, the rest
is the platform's. Between ticks nothing is reckoned, except that
whatever changes the tree or its plants (a trip, a failed chiller) first has the time up to it settled.

Refused here: why something fails, where replicas go, weather, prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from underlay.domain.figures import Method, weakest
from underlay.twin.kernel import Kernel
from underlay.twin.records import Account
from underlay.twin.world.capping import Capping
from underlay.twin.world.feeders import Feeders
from underlay.twin.world.power_tree import PowerNode, Where
from underlay.twin.world.servers import Equipment, Load
from underlay.twin.world.site_supply import SHUTDOWN_C, SiteSupply
from underlay.twin.world.topology import LEVELS

TICK_S = 10.0
#: After whatever else happens at the same time.
_LAST = 9


class Hands(Protocol):
    """How the facility acts on replicas."""

    def throttle(self, at: float, name: str, factor: float) -> None:
        """The clocks of a replica run ``factor`` (at least 1) times slower than they could."""
        ...

    def lose_power(self, at: float, name: str, cause: str) -> None:
        """A replica's servers are without power from now on."""
        ...


class Facility:
    """All sites. ``supplies`` are by the paths of sites, ``equipment`` by the servers' order in ``nodes``.

    ``happenings`` are (time, text); ``warnings`` what of the results is assumed. Errors: KeyError for a site
    without a supply; ValueError for a tree that is none.
    """

    def __init__(
        self,
        kernel: Kernel,
        nodes: Sequence[PowerNode],
        equipment: Sequence[Equipment],
        supplies: Mapping[str, SiteSupply],
        hands: Hands,
        *,
        tick_s: float = TICK_S,
    ) -> None:
        self.kernel = kernel
        self.feeders = Feeders(nodes, equipment, supplies, kernel.at)
        self.capping = Capping(self.feeders)
        self.hands = hands
        self.tick_s = tick_s
        self.happenings: list[tuple[float, str]] = []
        self._notes: dict[str, None] = {}
        self._tripped: dict[str, None] = {}

    # Time.

    def start(self) -> None:
        """Tick from now on."""
        self._arrange(self.kernel.at)

    def tick(self, at: float, _: Any = None) -> None:
        """Settle the time since the last tick, act on what is too much, and arrange for the next."""
        self.settle(at)
        if self.feeders.average():
            self._shut_down_hot_sites(at)
            for placed, slowdown in self.capping.act():
                placed.slowdown = slowdown
                self.hands.throttle(at, placed.name, slowdown)
            self.happenings += [(at, text) for text in self.capping.said]
            self.capping.said.clear()
        self._arrange(at)

    def settle(self, at: float) -> None:
        """Write everything that was drawn up to now into the book: before reading it, and at the end of a run."""
        self.feeders.settle(at)

    def _arrange(self, at: float) -> None:
        self.kernel.call(at + self.tick_s, self.tick, None, _LAST)

    def _shut_down_hot_sites(self, at: float) -> None:
        for place, state in enumerate(self.feeders.sites):
            if state.inlet_c >= SHUTDOWN_C:
                self.trip(at, self.feeders.tree.paths["site"][place], f"{state.inlet_c:.0f} C at the inlet")

    # What stands where.

    def place(
        self,
        at: float,
        name: str,
        servers: Sequence[int],
        accelerators: Sequence[int],
        load: Load,
        *,
        method: Method = "assumed",
        note: str = "",
    ) -> None:
        """A replica runs on so many accelerators of each of these servers, by their numbers, from now on.

        ``method`` and ``note`` are those of its power curve. Where places are held back already it is slowed at
        once. Errors: ValueError if it already runs.
        """
        placed = self.feeders.servers.place(name, at, servers, accelerators, load)
        self.feeders.busy_method = weakest((self.feeders.busy_method, method))
        if method == "assumed" and note:
            self._notes[note] = None
        slowdown = self.capping.slowdown(placed.servers)
        if slowdown > 1.0:
            placed.slowdown = slowdown
            self.hands.throttle(at, name, slowdown)

    def remove(self, at: float, name: str) -> None:
        """A replica has left its servers. Errors: KeyError if it is not there."""
        self.feeders.servers.remove(name, at)

    # What befalls it.

    def feed(self, at: float, path: str, share: float) -> None:
        """That share of the power that feeds a place is left: 0 trips it, 1 is as it was, a part of it caps it.

        The whole is the place's cap, or else the most that it may draw, with the last losses and cooling.
        Errors: NotFound; ValueError for what is no share.
        """
        level, place = _share_of(share, self.feeders.tree.find(path))
        if share <= 0.0:
            self.trip(at, path)
            return
        self.restore(at, path)
        whole_w = self.feeders.whole_w(level, place)
        self.feeders.tree.fed_w[level][place] = share * whole_w if share < 1.0 else np.inf
        self.happenings.append((at, f"{path} has {share:.0%} of its feed"))

    def fail_cooling(self, at: float, path: str, lost_share: float) -> None:
        """A site, or all sites of a region, have lost this part of their cooling; 0 mends it.

        Errors: NotFound; ValueError for what is no share, or a place that has no cooling of its own.
        """
        level, place = _share_of(lost_share, self.feeders.tree.find(path))
        if level not in {"site", "region"}:
            raise ValueError(f"{path} is a {level}: cooling fails in sites and regions.")
        self.settle(at)
        for site, state in enumerate(self.feeders.sites):
            if place == (site if level == "site" else self.feeders.tree.parents["site"][site]):
                state.working_share = 1.0 - lost_share
        self.happenings.append((at, f"{path} has {1.0 - lost_share:.0%} of its cooling"))

    def trip(self, at: float, path: str, cause: str = "power") -> list[str]:
        """A place is without power; its replicas lose it, and are told. They stay placed until they are removed.

        Errors: NotFound. A place that is off already stays so, and has nobody to lose.
        """
        where = self.feeders.tree.find(path)
        if path in self._tripped:
            return []
        self.feeders.settle(at)
        self._tripped[path] = None
        servers = self.feeders.tree.servers(where)
        dark = servers[self.feeders.servers.off_reasons[servers] == 0]
        self.feeders.servers.off_reasons[servers] += 1
        self._switch_halls()
        self.happenings.append((at, f"{path} is without power: {cause}"))
        names = self.feeders.servers.on(dark)
        for name in names:
            self.hands.lose_power(at, name, cause)
        return names

    def restore(self, at: float, path: str) -> bool:
        """A place that was tripped has power again; whether it had been. What ran there is to be started anew."""
        where = self.feeders.tree.find(path)
        if path not in self._tripped:
            return False
        self.feeders.settle(at)
        del self._tripped[path]
        self.feeders.servers.off_reasons[self.feeders.tree.servers(where)] -= 1
        self._switch_halls()
        self.happenings.append((at, f"{path} has power again"))
        return True

    def has_power(self, server: int) -> bool:
        """Whether a server is on."""
        return not self.feeders.servers.off_reasons[server]

    def _switch_halls(self) -> None:
        """A hall's supply is on unless the hall or what it stands in was tripped."""
        of_site = self.feeders.tree.parents["hall"]
        dark = {level: np.zeros(self.feeders.tree.counts[level], dtype=np.bool_) for level in LEVELS}
        for path in self._tripped:
            level, place = self.feeders.tree.find(path)
            dark[level][place] = True
        dark_sites = dark["site"] | dark["region"][self.feeders.tree.parents["site"]]
        self.feeders.halls_on = ~(dark["hall"] | dark_sites[of_site])

    # What it comes to.

    def sample(self) -> dict[str, float]:
        """Watts, PUE, temperatures and slowdowns of the last tick, by names such as ``west.power_w``."""
        found = self.feeders.sample()
        tree = self.feeders.tree
        slowdowns = self.capping.slowdowns
        for place, path in enumerate(tree.paths["site"]):
            found[f"{path}.slowdown"] = float(slowdowns[tree.of_server["site"] == place].max())
        return found

    def accounts(self) -> list[Account]:
        """The totals of every region and of everywhere, up to what was settled."""
        return self.feeders.accounts()

    def watts(self, path: str) -> float:
        """What a place drew on average over the last tick: sites and regions at the feeder. Errors: NotFound."""
        level, place = self.feeders.tree.find(path)
        return float(self.feeders.watts[level][place])

    @property
    def warnings(self) -> list[str]:
        """What is assumed, said once."""
        said = dict.fromkeys(text for state in self.feeders.sites for text in state.supply.warnings)
        return [*said, *(f"Power of accelerators: {note}." for note in self._notes)]


def _share_of(share: float, where: Where) -> Where:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"A share is from 0 to 1, got {share:g}.")
    return where
