"""How many watts does a server draw beside its accelerators?

The processors with their board, fans and power supply draw what SPECpower_ssj2008 measured at the wall, idle and
at full load, and on a straight line between; what those lightly equipped servers lack is added: memory beyond
theirs, drives and network cards at their rated watts, all the time. Serving keeps few cores busy:
``CPU_SHARE_BUSY`` is assumed. With the defaults below a host of eight busy accelerators comes to 1,240 W;
Boavizta's model of such a host says 1,200 W (by way of EcoLogits, p5.48xlarge).

Fans that cool the accelerators draw a share of what those draw (GreenSKU: 0.089 of the whole server at 320 W,
0.154 at 911 W; the lower is taken, as the fans of great servers are greater and slower). Power supplies lose 5 %
of what passes (GreenSKU); what SPECpower measured has its own already.

Refused here: accelerators, racks, clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from underlay.physics.lookup import named
from underlay.physics.tables import rows

#: The part of full load at which the processors run while all accelerators are busy: assumed.
CPU_SHARE_BUSY = 0.2

DEFAULT_CPU = "Xeon Platinum 8480+"


class Cpu(NamedTuple):
    """A whole two-socket server by the name of its processor: watts at the wall, and the memory that it had.

    ``threads`` are the hardware threads of both sockets together.
    """

    idle_w: float
    full_w: float
    memory_gb: float
    threads: int
    threads_per_core: int


@dataclass(frozen=True, slots=True)
class HostPower:
    """Watts at the wall with idle and with busy accelerators, and what it costs to cool and feed those.

    ``fan_share`` is what fans draw for each watt of the accelerators, ``supply_share`` what the power supply loses
    of each watt of them.
    """

    idle_w: float
    busy_w: float
    fan_share: float
    supply_share: float
    method: Literal["modelled", "assumed"]
    note: str

    @property
    def supplied(self) -> float:
        """The watts at the wall for each that its accelerators draw: their own, fans' and the power supply's."""
        return 1.0 + self.fan_share + self.supply_share

    def power_w(self, busy_share: float) -> float:
        """The host's watts when this part of its accelerators is busy; fans and supply for them not included."""
        return self.idle_w + (self.busy_w - self.idle_w) * busy_share


def host(
    cpu: str = DEFAULT_CPU,
    *,
    memory_gb: float = 2048.0,
    storage_tb: float = 30.0,
    nics_100g: float = 10.0,
    cooling: Literal["air", "liquid"] = "air",
) -> HostPower:
    """A host by its parts; liquid cooling needs no fans for accelerators. Errors: NotFound for the processor."""
    said = named(cpus(), cpu, "processor")
    part = parts()
    extra_w = max(memory_gb - said.memory_gb, 0.0) * part["memory_gb"]
    extra_w += storage_tb * part["storage_tb"] + nics_100g * part["nic_100g"]
    return HostPower(
        idle_w=said.idle_w + extra_w,
        busy_w=said.idle_w + (said.full_w - said.idle_w) * CPU_SHARE_BUSY + extra_w,
        fan_share=part["fan_share_at_320w"] if cooling == "air" else 0.0,
        supply_share=1.0 / part["psu_efficiency"] - 1.0,
        method="modelled",
        note=f"SPECpower of {cpu}; memory, drives and network cards at rated watts",
    )


def stated(power_w: float) -> HostPower:
    """A host that draws what its owner says, fans included, always."""
    return HostPower(power_w, power_w, 0.0, 1.0 / parts()["psu_efficiency"] - 1.0, "assumed", "stated by the owner")


@cache
def cpus() -> Mapping[str, Cpu]:
    """All processors of the table."""
    return {
        row["cpu"]: Cpu(
            idle_w=float(row["idle_w"]),
            full_w=float(row["full_w"]),
            memory_gb=float(row["memory_gb"]),
            threads=int(row["sockets"]) * int(row["cores_per_socket"]) * int(row["threads_per_core"]),
            threads_per_core=int(row["threads_per_core"]),
        )
        for row in rows("server_cpus.csv")
    }


@cache
def parts() -> Mapping[str, float]:
    """Watts of parts: per GB of memory, per TB of flash, per 100 Gbit/s of network; and shares."""
    return {row["part"]: float(row["value"]) for row in rows("server_parts.csv")}
