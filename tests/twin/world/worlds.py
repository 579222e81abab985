"""Small worlds, and a target that writes down what is done to it."""

from __future__ import annotations

from math import inf

from underlay.twin.kernel import Kernel
from underlay.twin.world.fabric import Fabric, LinkRates
from underlay.twin.world.links import Links
from underlay.twin.world.outages import Outages
from underlay.twin.world.placement import Placement
from underlay.twin.world.storage import ColdStart, StartSettings, Weights
from underlay.twin.world.topology import Plan, Topology

KIND = "h100-sxm"
WEIGHTS = Weights.of("llama-3.1-8b", "bf16")


def region(name: str, place: str = "", *, halls: int = 1, racks: int = 2, servers: int = 2, accelerators: int = 8):
    """One region with one site, such as west/w/a/r1/s1."""
    server = Plan("s", servers, accelerator=KIND, accelerators=accelerators)
    hall = Plan("a", halls, parts=[Plan("r", racks, parts=[server])])
    return Plan(name, parts=[Plan("w", parts=[hall])], place=place)


def two_regions(**sizes: int) -> Topology:
    return Topology([region("west", "azure/westus2", **sizes), region("east", "azure/westeurope", **sizes)])


class World:
    """All physical parts, and replicas that note what happens to them."""

    def __init__(self, topology: Topology | None = None, *, seed: int = 1, spare_after_s=None, start=None, **rates):
        self.kernel = Kernel(seed)
        self.topology = topology or two_regions()
        self.links = Links(self.kernel)
        self.fabric = Fabric(self.topology, self.links, LinkRates(**rates))
        self.placement = Placement(self.topology)
        self.starts = ColdStart(self.kernel, self.fabric, self.placement, start or StartSettings(), self.ready)
        self.outages = Outages(self.kernel, self.placement, self, spare_after_s)
        self.log: list[tuple[float, str, str, object]] = []
        self.said: list[tuple[float, str]] = []
        self.states: dict[str, str] = {}

    def add(self, name: str, accelerators: int = 8, within: str = "", group: str = "") -> None:
        self.placement.place(name, accelerators, KIND, within=within, group=group)
        self.states[name] = "up"

    def ready(self, at: float, replica: str) -> None:
        self.states[replica] = "up"
        self.log.append((at, "ready", replica, None))

    def replicas(self):
        return list(self.states)

    def kill(self, replica, at, cause):
        self.starts.cancel(replica)
        self.states[replica] = "down"
        self.log.append((at, "kill", replica, cause))

    def restart(self, replica, at):
        assert self.states[replica] == "down"
        self.states[replica] = "starting"
        self.log.append((at, "restart", replica, None))
        self.starts.begin(replica, at, WEIGHTS)

    def slow(self, replica, factor, at):
        self.log.append((at, "slow", replica, factor))

    def stick(self, replica, at, *, stuck):
        self.log.append((at, "stick", replica, stuck))

    def fail_share(self, replica, share, at):
        self.log.append((at, "fail_share", replica, share))

    def power(self, path, share, at):
        self.log.append((at, "power", path, share))

    def cooling(self, path, share, at):
        self.log.append((at, "cooling", path, share))

    def happened(self, at, text):
        self.said.append((at, text))

    def done(self, what: str) -> list[tuple[float, str, object]]:
        """When, to whom and how a verb was used."""
        return [(at, to, how) for at, verb, to, how in self.log if verb == what]


def arranged(kernel: Kernel) -> list:
    """All appointments that there are, in no order."""
    return [*kernel._heap, *(each for later in kernel._later.values() for each in later)]


def call_off(kernel: Kernel, action) -> None:
    """Forget every appointment for this; the others are all in the heap then."""
    kernel._heap = sorted(each for each in arranged(kernel) if each[3] != action)
    kernel._later, kernel._slices, kernel._ends_at = {}, [], inf
