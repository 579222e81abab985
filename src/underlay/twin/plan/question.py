"""What is asked of a planner: a model, a load, a promise, and what may be used to keep it.

Values only, checked where they contradict each other; how any of it is reckoned is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from underlay.domain.errors import BadRequest
from underlay.twin.plan.demand import Demand

Objective = Literal["cost", "energy", "carbon"]


@dataclass(frozen=True, slots=True)
class Slo:
    """So many of all requests within both, at the caller: the round trip is in ``ttft_s``. None: does not count."""

    ttft_s: float | None = 2.0
    tpot_s: float | None = 0.1
    attainment: float = 0.99


@dataclass(frozen=True, slots=True)
class Candidate:
    """A region that may be used; what is given takes the place of what was published. Power is at the feeder."""

    name: str
    usd_kwh: float | None = None
    carbon_g_kwh: float | None = None
    pue: float | None = None
    power_cap_w: float = inf
    share_max: float = 1.0
    accelerators_max: float = inf


@dataclass(frozen=True, slots=True)
class Client:
    """Where callers are, and their part of the load by others' parts."""

    place: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that a plan depends on.

    Empty ``accelerators``, ``precisions`` and ``parallelisms`` mean all that are known for the model.
    ``usd_per_hour`` and ``available`` are by accelerator. Without ``clients`` everybody is near the region that
    serves them. ``rtt_max_s`` bounds the round trip between regions, ``rtt_lost_max_s`` while a region is lost.
    ``one_kind`` forbids unlike replicas in one region, where some would answer in another precision or time.
    """

    model: str
    demand: Demand
    slo: Slo
    regions: tuple[Candidate, ...]
    clients: tuple[Client, ...] = ()
    accelerators: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    parallelisms: tuple[str, ...] = ()
    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    available: Mapping[str, int] = field(default_factory=dict)
    usd_kwh: float | None = None
    rtt_max_s: float = inf
    rtt_lost_max_s: float = inf
    share_max: float = 1.0
    regions_min: int = 1
    survives_region: bool = False
    one_kind: bool = True
    objective: Objective = "cost"
    server_accelerators: int = 8
    context_tokens: int | None = None
    assumed_profiles: bool = False
    seed: int = 0
    samples: int = 64
    time_limit_s: float = 20.0

    def __post_init__(self) -> None:
        names = [region.name for region in self.regions]
        _demand(bool(names), "Name at least one region, such as azure/westeurope.", "region")
        _demand(len(set(names)) == len(names), "A region is named twice.", "region")
        _demand(self.regions_min <= len(names), f"{self.regions_min} regions of {len(names)}.", "regions_min")
        _demand(
            not self.survives_region or len(names) > 1,
            "To survive the loss of a region there must be another one: name two or more.",
            "region",
        )
        _demand(0.5 <= self.slo.attainment < 1, "An attainment is from 0.5 up to below 1.", "attainment")
        told = [self.slo.ttft_s, self.slo.tpot_s]
        _demand(any(told), "Promise a TTFT or a TPOT: without either any load fits anything.", "slo")
        _demand(sum(client.weight for client in self.clients) > 0 or not self.clients, "Nobody asks.", "clients")

    @property
    def shares(self) -> tuple[float, ...]:
        """The part of the load that each client place makes."""
        total = sum(client.weight for client in self.clients)
        return tuple(client.weight / total for client in self.clients)


def _demand(holds: bool, message: str, param: str) -> None:
    if not holds:
        raise BadRequest(message, param=param)
