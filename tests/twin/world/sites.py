"""A small world of power for tests: two sites of one region, and replicas that draw what a test says."""

from __future__ import annotations

from typing import Any

from underlay.physics.climate import Climate
from underlay.physics.cooling import CoolingPlant
from underlay.physics.grid import Signal
from underlay.physics.host_power import HostPower
from underlay.physics.power import power_share
from underlay.physics.power_chain import chain
from underlay.twin.kernel import Kernel
from underlay.twin.world.facility import Facility
from underlay.twin.world.power_tree import PowerNode
from underlay.twin.world.servers import Equipment
from underlay.twin.world.site_supply import SiteSupply

HOST = HostPower(1000.0, 1200.0, 0.09, 0.05, "modelled", "")
SERVER = Equipment(8, 90.0, 700.0, HOST)


def nodes(sites: int = 2, racks: int = 2, servers: int = 2, **caps: float) -> list[PowerNode]:
    """west > w1, w2 > h > r1 … > s1 …; caps by path with / written as _."""
    found: list[PowerNode] = []

    def add(path: str, parent: int, level: Any) -> int:
        found.append(PowerNode(path, parent, level, caps.get(path.replace("/", "_"))))
        return len(found) - 1

    region = add("west", -1, "region")
    for site in range(1, sites + 1):
        hall = add(f"west/w{site}/h", add(f"west/w{site}", region, "site"), "hall")
        for rack in range(1, racks + 1):
            at = add(f"west/w{site}/h/r{rack}", hall, "rack")
            for server in range(1, servers + 1):
                add(f"west/w{site}/h/r{rack}/s{server}", at, "server")
    return found


class Steady:
    """A replica that always computes at ``watts``, less when its clock is slow; down, it draws nothing."""

    def __init__(self, watts: float = 4000.0, idle_w: float = 720.0, busy: float = 1.0) -> None:
        self.watts, self.idle_w, self.busy = watts, idle_w, busy
        self.slowdown, self.at, self.busy_s, self.joules, self.up = 1.0, 0.0, 0.0, 0.0, True

    @property
    def power_w(self) -> float:
        return self.idle_w + (self.watts - self.idle_w) * power_share(self.slowdown)

    def drawn(self, at: float) -> tuple[float, float]:
        if self.up:
            self.busy_s += (at - self.at) * self.busy
            self.joules += (at - self.at) * self.busy * self.power_w
        self.at = at
        return self.busy_s, self.joules


class World:
    """A facility and what it told its replicas."""

    def __init__(self, tree: list[PowerNode], supply: SiteSupply | None = None, ups: Any = "typical") -> None:
        self.kernel = Kernel(1)
        self.told: list[tuple[float, str, float]] = []
        self.lost: list[tuple[float, str, str]] = []
        self.loads: dict[str, Steady] = {}
        sites = [node.path for node in tree if node.level == "site"]
        count = sum(node.level == "server" for node in tree)
        peak_w = SERVER.peak_w * count / len(sites)
        given = supply or SiteSupply(
            chain(ups), CoolingPlant(peak_w * 1.2), Climate(40, 0), None,
            Signal(400, "modelled", "test", 0.1, 20.0), Signal(0.1, "modelled", "test"), None, 2.0,
        )  # fmt: skip
        self.facility = Facility(self.kernel, tree, [SERVER] * count, dict.fromkeys(sites, given), self)
        self.facility.start()

    def run(self, *, to: float) -> None:
        self.kernel.run(to)

    def place(self, name: str, servers: list[int], load: Steady | None = None, each: int = 8) -> Steady:
        load = self.loads[name] = load or Steady()
        load.at = self.kernel.at
        self.facility.place(self.kernel.at, name, servers, [each] * len(servers), load, method="modelled")
        return load

    def throttle(self, at: float, name: str, factor: float) -> None:
        self.loads[name].drawn(at)
        self.loads[name].slowdown = factor
        self.told.append((at, name, factor))

    def lose_power(self, at: float, name: str, cause: str) -> None:
        self.loads[name].drawn(at)
        self.loads[name].up = False
        self.lost.append((at, name, cause))

    def joules(self, kind: int) -> float:
        return float(self.facility.feeders.book.sums[kind].sum())
