"""What is made to go wrong, when, where and for how long: the faults that a scenario scripts.

Of the five causes of outages, the surge is a crowd's. The others are here: a shortage of accelerators (nothing can
be started), congestion (a link has less, is slower, loses packets), a bad deployment (a share of replicas becomes
slow, fails requests or crashes until it is rolled back), and the infrastructure of a region (a place is lost, or
part of its power or cooling); and beside them what nobody is told of, slow and stuck replicas. A fault acts
through ``Target``, ``Outages`` and ``Fabric`` only, and takes back what it did when it ends; several at once on one
replica or link add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import ceil, inf, prod

from underlay.twin.kernel import Kernel
from underlay.twin.world.fabric import Fabric
from underlay.twin.world.mistake import ScenarioMistake
from underlay.twin.world.outages import Outage, Outages
from underlay.twin.world.sharing import Link
from underlay.twin.world.target import Target

__all__ = ["KINDS", "Fault", "Faults", "Target", "check"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of fault strikes (``where``), and its settings: default, least and most."""

    where: str
    settings: Mapping[str, tuple[float, float, float]]


_SHARE = (1.0, 0.0, 1.0)
#: A share that is left of something: by default nothing.
_LEFT = (0.0, 0.0, 1.0)
#: All kinds. Replicas are named by a pattern, or by the place that they run in.
KINDS: Mapping[str, Kind] = {
    "shortage": Kind("place", {}),
    "congestion": Kind("link", {"left": (1.0, 0.0, 1.0), "added_s": (0.0, 0.0, 3600.0), "loss": (0.0, 0.0, 0.99)}),
    "deployment": Kind(
        "replicas", {"share": _SHARE, "slower": (1.0, 1.0, 1e6), "failing": _LEFT, "crash_after_s": (inf, 0.0, inf)}
    ),
    "outage": Kind("place", {}),
    "power": Kind("place", {"left": _LEFT}),
    "cooling": Kind("place", {"left": _LEFT}),
    "slow": Kind("replicas", {"share": _SHARE, "slower": (2.0, 1.0, 1e6)}),
    "stuck": Kind("replicas", {"share": _SHARE}),
    "crash": Kind("replicas", {"share": _SHARE}),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault, at ``at`` for ``for_s`` seconds. ``settings`` are those of its kind, see ``KINDS``.

    ``steps`` say where in the scenario it was asked for.
    """

    kind: str
    at: float
    where: str
    for_s: float = inf
    settings: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[str | int, ...] = ()

    def setting(self, name: str) -> float:
        """A setting, or its default."""
        return self.settings.get(name, KINDS[self.kind].settings[name][0])


def check(fault: Fault, fabric: Fabric) -> None:
    """Errors: ScenarioMistake for a fault that cannot be.

    Whether a pattern fits any replica is seen when it strikes, as replicas come and go.
    """
    kind = KINDS.get(fault.kind)
    if kind is None:
        near = get_close_matches(fault.kind, KINDS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"kinds are {', '.join(KINDS)}."
        if fault.kind == "surge":
            meant = "a surge is something that a crowd does: set it there."
        raise ScenarioMistake((*fault.steps, "kind"), f"There is no fault {fault.kind!r}; {meant}")
    if not 0.0 <= fault.at < inf:
        raise ScenarioMistake((*fault.steps, "at"), f"A fault is at a time of the run, not at {fault.at:g} s.")
    if not fault.for_s > 0.0:
        raise ScenarioMistake((*fault.steps, "for_s"), f"A fault lasts more than {fault.for_s:g} s.")
    for name, value in fault.settings.items():
        _check_setting(fault, kind, name, value)
    if kind.where == "place":
        fabric.topology.node(fault.where, (*fault.steps, "where"))
    elif kind.where == "link":
        fabric.link(fault.where, (*fault.steps, "where"))


def _check_setting(fault: Fault, kind: Kind, name: str, value: float) -> None:
    if name not in kind.settings:
        near = get_close_matches(name, kind.settings, n=1)
        meant = f"did you mean {near[0]}?" if near else f"it has {', '.join(kind.settings) or 'none'}."
        raise ScenarioMistake((*fault.steps, name), f"A fault {fault.kind} has no setting {name!r}; {meant}")
    _, least, most = kind.settings[name]
    if not least <= value <= most:
        raise ScenarioMistake((*fault.steps, name), f"{name} lies between {least:g} and {most:g}, not {value:g}.")


class _Struck:
    """What a fault has done, to be taken back."""

    __slots__ = ("fault", "link", "outage", "replicas")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.replicas: list[str] = []
        self.link: Link | None = None
        self.outage: Outage | None = None


_Step = Callable[[float, _Struck], None]


class Faults:
    """The script of one run. Errors: ScenarioMistake for a fault that cannot be."""

    def __init__(
        self, kernel: Kernel, faults: Sequence[Fault], fabric: Fabric, outages: Outages, target: Target
    ) -> None:
        self.kernel = kernel
        self.fabric = fabric
        self.outages = outages
        self.target = target
        #: What is on now: by replica, by link, and by kind and place.
        self._on: dict[str, list[Fault]] = {}
        self._on_link: dict[str, list[Fault]] = {}
        self._on_place: dict[tuple[str, str], list[Fault]] = {}
        #: How a fault of each kind begins and, where it has an end, is taken back.
        self._verbs: Mapping[str, tuple[_Step, _Step | None]] = {
            "shortage": (self._hold, self._release),
            "congestion": (self._congest, self._decongest),
            "deployment": (self._deploy, self._roll_back),
            "outage": (self._lose, self._regain),
            "power": (self._feed, self._feed_again),
            "cooling": (self._feed, self._feed_again),
            "slow": (self._afflict, self._relieve),
            "stuck": (self._afflict, self._relieve),
            "crash": (self._crash, None),
        }
        self._dice = kernel.stream("faults")
        for fault in faults:
            check(fault, fabric)
        for fault in faults:
            kernel.call(fault.at, self._strike, fault)

    def _strike(self, at: float, fault: Fault) -> None:
        struck = _Struck(fault)
        if KINDS[fault.kind].where == "replicas":
            struck.replicas = self._choose(fault)
            said = f": {len(struck.replicas)} replicas"
        else:
            said = ""
        self.target.happened(at, f"{fault.kind} at {fault.where}{said}")
        begin, end = self._verbs[fault.kind]
        begin(at, struck)
        if fault.for_s < inf and end is not None:
            self.kernel.call(at + fault.for_s, self._end, struck)

    def _end(self, at: float, struck: _Struck) -> None:
        self.target.happened(at, f"end of {struck.fault.kind} at {struck.fault.where}")
        end = self._verbs[struck.fault.kind][1]
        assert end is not None
        end(at, struck)

    def _choose(self, fault: Fault) -> list[str]:
        """The replicas that a fault strikes: a share, rounded up, of those that its ``where`` names; by lot."""
        node = self.fabric.topology.nodes.get(fault.where)
        if node is not None:
            named = self.outages.placement.on(node)
        else:
            named = [replica for replica in self.target.replicas() if fnmatchcase(replica, fault.where)]
        count = ceil(fault.setting("share") * len(named))
        chosen = frozenset(self._dice.sample(range(len(named)), count))
        return [replica for place, replica in enumerate(named) if place in chosen]

    def _hold(self, at: float, struck: _Struck) -> None:
        del at
        self.outages.hold(struck.fault.where)

    def _release(self, at: float, struck: _Struck) -> None:
        self.outages.release(struck.fault.where, at)

    def _congest(self, at: float, struck: _Struck) -> None:
        del at
        link = struck.link = self.fabric.link(struck.fault.where)
        self._on_link.setdefault(link.name, []).append(struck.fault)
        self._set_link(link)

    def _decongest(self, at: float, struck: _Struck) -> None:
        del at
        assert struck.link is not None
        self._on_link[struck.link.name].remove(struck.fault)
        self._set_link(struck.link)

    def _set_link(self, link: Link) -> None:
        faults = self._on_link[link.name]
        self.fabric.links.degrade(
            link,
            factor=prod(fault.setting("left") for fault in faults),
            added_s=sum(fault.setting("added_s") for fault in faults),
            loss=1.0 - prod(1.0 - fault.setting("loss") for fault in faults),
        )

    def _lose(self, at: float, struck: _Struck) -> None:
        node = self.fabric.topology.node(struck.fault.where)
        struck.outage = self.outages.lose(node, at, f"outage of {node.path}")

    def _regain(self, at: float, struck: _Struck) -> None:
        assert struck.outage is not None
        self.outages.regain(struck.outage, at)

    def _feed(self, at: float, struck: _Struck) -> None:
        self._on_place.setdefault((struck.fault.kind, struck.fault.where), []).append(struck.fault)
        self._set_feed(at, struck.fault)

    def _feed_again(self, at: float, struck: _Struck) -> None:
        self._on_place[struck.fault.kind, struck.fault.where].remove(struck.fault)
        self._set_feed(at, struck.fault)

    def _set_feed(self, at: float, fault: Fault) -> None:
        """What is left of the power or cooling of a place: each fault takes its part of what the others leave."""
        left = prod(each.setting("left") for each in self._on_place[fault.kind, fault.where])
        if fault.kind == "power":
            self.target.power(fault.where, left, at)
        else:
            self.target.cooling(fault.where, left, at)

    def _deploy(self, at: float, struck: _Struck) -> None:
        """A bad version is on a share of the replicas from now on."""
        self._afflict(at, struck)
        after_s = struck.fault.setting("crash_after_s")
        if after_s < struck.fault.for_s:
            self.kernel.call(at + after_s, self._crash_for_good, struck)

    def _crash_for_good(self, at: float, struck: _Struck) -> None:
        """The bad version ends by itself and does so again whenever it is started, until it is rolled back."""
        struck.outage = self.outages.bar(struck.replicas, at, "bad version")

    def _roll_back(self, at: float, struck: _Struck) -> None:
        self._relieve(at, struck)
        if struck.outage is not None:
            self.outages.regain(struck.outage, at)

    def _afflict(self, at: float, struck: _Struck) -> None:
        for replica in struck.replicas:
            self._on.setdefault(replica, []).append(struck.fault)
            self._set_replica(at, replica)

    def _relieve(self, at: float, struck: _Struck) -> None:
        known = frozenset(self.target.replicas())
        for replica in struck.replicas:
            self._on[replica].remove(struck.fault)
            if replica in known:
                self._set_replica(at, replica)

    def _set_replica(self, at: float, replica: str) -> None:
        faults = self._on[replica]
        slower = [fault.setting("slower") for fault in faults if fault.kind in {"slow", "deployment"}]
        served = [1.0 - fault.setting("failing") for fault in faults if fault.kind == "deployment"]
        self.target.slow(replica, prod(slower), at)
        self.target.fail_share(replica, 1.0 - prod(served), at)
        self.target.stick(replica, at, stuck=any(fault.kind == "stuck" for fault in faults))

    def _crash(self, at: float, struck: _Struck) -> None:
        for replica in struck.replicas:
            self.outages.crash(replica, at, "scripted crash")
