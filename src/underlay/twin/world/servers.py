"""What do all servers draw, and whose accelerators were busy?

Every server is a row of numbers: its accelerators, what they draw idle, its host. Replicas are rows too, each with
the servers that it runs on. A while is reckoned at once for all of them. Refused here: caps, cooling, clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from underlay.physics.host_power import HostPower
from underlay.twin.world.power_tree import Floats, Places, summed


class Load(Protocol):
    """What a replica has used."""

    def drawn(self, at: float) -> tuple[float, float]:
        """How long its accelerators have computed up to ``at``, and the joules of that; steps that run included."""
        ...


class Equipment(NamedTuple):
    """What is in one server. ``idle_w`` and ``rated_w`` are of one accelerator."""

    accelerators: int
    idle_w: float
    rated_w: float
    host: HostPower

    @property
    def peak_w(self) -> float:
        """What it may draw at its plug."""
        return self.accelerators * self.rated_w * self.host.supplied + self.host.busy_w


class Used(NamedTuple):
    """Joules of every server in a while, by account; ``total`` is at its plug.

    ``movable`` is what of the total goes with the clocks: what busy accelerators drew above idle, and what that
    cost in fans and supply. ``host_active`` is what hosts drew because accelerators computed, ``computed_s`` for
    how many seconds these did, added up.
    """

    busy: Floats
    idle: Floats
    host: Floats
    supply: Floats
    total: Floats
    movable: Floats
    host_active: Floats
    computed_s: Floats


class Placed:
    """One replica: its accelerators in each of its servers, and how much of what it drew has been counted."""

    __slots__ = ("accelerators", "busy_s", "joules", "load", "name", "servers", "slowdown")

    def __init__(self, name: str, servers: Sequence[int], accelerators: Sequence[int], load: Load) -> None:
        self.name = name
        self.servers = tuple(servers)
        self.accelerators = tuple(accelerators)
        self.load = load
        self.busy_s, self.joules = 0.0, 0.0
        self.slowdown = 1.0


class Servers:
    """All servers and the replicas on them."""

    __slots__ = (
        "_busy_s",
        "_joules",
        "_left_j",
        "_left_s",
        "_rows",
        "_stale",
        "accelerators",
        "fan_share",
        "host_busy_w",
        "host_idle_w",
        "idle_w",
        "off_reasons",
        "peak_w",
        "placed",
        "supply_share",
    )

    def __init__(self, equipment: Sequence[Equipment]) -> None:
        self.accelerators = np.array([kind.accelerators for kind in equipment], dtype=np.float64)
        self.idle_w = np.array([kind.idle_w for kind in equipment])
        self.host_idle_w = np.array([kind.host.idle_w for kind in equipment])
        self.host_busy_w = np.array([kind.host.busy_w for kind in equipment])
        self.fan_share = np.array([kind.host.fan_share for kind in equipment])
        self.supply_share = np.array([kind.host.supply_share for kind in equipment])
        self.peak_w = np.array([kind.peak_w for kind in equipment])
        #: Why each server is off: how many of the places around it, itself included, were tripped.
        self.off_reasons = np.zeros(len(equipment), dtype=np.int64)
        self.placed: dict[str, Placed] = {}
        self._stale = True
        self._rows: tuple[list[Placed], Places, Places, Floats, Floats] = ([], *_NO_ROWS)
        self._busy_s = self._joules = np.zeros(0)
        #: What replicas that have left drew since it was last asked: joules, and seconds of accelerators.
        self._left_j, self._left_s = np.zeros(len(equipment)), np.zeros(len(equipment))

    def place(
        self, name: str, at: float, servers: Sequence[int], accelerators: Sequence[int], load: Load
    ) -> Placed:
        """A replica runs on so many accelerators of each of these servers from now on.

        Errors: ValueError if it already runs.
        """
        if name in self.placed:
            raise ValueError(f"The replica {name} already has its servers.")
        self._keep()
        placed = self.placed[name] = Placed(name, servers, accelerators, load)
        placed.busy_s, placed.joules = load.drawn(at)
        return placed

    def remove(self, name: str, at: float) -> None:
        """A replica has left its servers; what it drew until now is kept. Errors: KeyError if it is not there."""
        self._keep()
        placed = self.placed.pop(name)
        busy_s, joules = placed.load.drawn(at)
        busy_s, joules = max(busy_s - placed.busy_s, 0.0), max(joules - placed.joules, 0.0)
        for server, count in zip(placed.servers, placed.accelerators, strict=True):
            self._left_j[server] += joules * count / sum(placed.accelerators)
            self._left_s[server] += busy_s * count

    def on(self, servers: Places) -> list[str]:
        """The replicas that run on any of these servers, in the order they were placed."""
        rows, of_row, server_of, _, _ = self._table()
        touched = np.isin(server_of, servers)
        return [rows[row].name for row in np.unique(of_row[touched])]

    def use(self, at: float, seconds: float) -> Used:
        """What was drawn in the ``seconds`` up to ``at``, during which no server went off or on."""
        rows, of_row, server_of, count, part = self._table()
        now = np.array([placed.load.drawn(at) for placed in rows]).reshape(-1, 2)
        # A step that was cut off by a fault is never told; what had been drawn for it stays drawn.
        busy_s = np.maximum(now[:, 0] - self._busy_s, 0.0)
        joules = np.maximum(now[:, 1] - self._joules, 0.0)
        self._busy_s, self._joules = now[:, 0].copy(), now[:, 1].copy()
        servers = len(self.accelerators)
        busy = summed(server_of, joules[of_row] * part, servers) + self._left_j
        computed_s = summed(server_of, busy_s[of_row] * count, servers) + self._left_s
        self._left_j[:] = self._left_s[:] = 0.0
        provided_s = self.accelerators * seconds
        computed_s = np.minimum(computed_s, provided_s)
        on = self.off_reasons == 0
        idle = on * self.idle_w * (provided_s - computed_s)
        share = computed_s / np.maximum(provided_s, 1e-300)
        host_active = on * (self.host_busy_w - self.host_idle_w) * share * seconds + self.fan_share * busy
        host = on * self.host_idle_w * seconds + self.fan_share * idle + host_active
        supply = self.supply_share * (busy + idle)
        movable = np.maximum(busy - self.idle_w * computed_s, 0.0) * (1.0 + self.fan_share + self.supply_share)
        return Used(busy, idle, host, supply, busy + idle + host + supply, movable, host_active, computed_s)

    def retimed(self, of_server: Floats) -> list[tuple[Placed, float]]:
        """The replicas whose slowdown is another now: each goes as slow as the slowest of its servers."""
        rows, of_row, server_of, _, _ = self._table()
        slowest = np.ones(len(rows))
        np.maximum.at(slowest, of_row, of_server[server_of])
        had = np.array([placed.slowdown for placed in rows])
        return [(rows[row], float(slowest[row])) for row in np.flatnonzero(np.abs(slowest - had) > 1e-9)]

    def _table(self) -> tuple[list[Placed], Places, Places, Floats, Floats]:
        """Replicas, and for each server of each: whose, which, how many accelerators, which part of all of them."""
        if self._stale:
            rows = list(self.placed.values())
            pairs = [(row, server, count, count / sum(placed.accelerators))
                     for row, placed in enumerate(rows)
                     for server, count in zip(placed.servers, placed.accelerators, strict=True)]  # fmt: skip
            table = np.array(pairs).reshape(-1, 4)
            self._rows = (
                rows,
                table[:, 0].astype(np.int64),
                table[:, 1].astype(np.int64),
                table[:, 2],
                table[:, 3],
            )
            self._busy_s = np.array([placed.busy_s for placed in rows])
            self._joules = np.array([placed.joules for placed in rows])
            self._stale = False
        return self._rows

    def _keep(self) -> None:
        """Hand what is known of each replica back to it: the table will be made anew."""
        if not self._stale:
            for placed, busy_s, joules in zip(self._rows[0], self._busy_s, self._joules, strict=True):
                placed.busy_s, placed.joules = float(busy_s), float(joules)
            self._stale = True


_NO_ROWS = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
