"""Who took the joules that a device's meter counted in a window?

* ``idle_provisioned``: idle watts times the time in which no step ran, never more than the meter. Static power
  while a step runs is no idleness: it is in the fixed part of the step.
* The rest is *busy*. It goes to the works of the window's steps in proportion to what the policy (``policies``)
  weighs them at, so the window closes by construction; that proves nothing of fairness, which is why the rescale
  factor is published. A step across an edge counts by the part of its time that lies within. By its purpose a
  work's share is booked on ``busy``, ``scheduler_waste`` (computed a second time after a preemption: nobody is
  charged twice), ``failed_attempts``, ``abandoned_streams`` or ``warming`` (caches filled before anybody asks);
  each entry says whose work it was.
* ``unexplained``: metered while nothing ran, beyond idle power. A lagging counter puts some there; much of it
  means that somebody else uses the device or that idle power is wrong.

What each share is off by: the meter's (and idle power's) uncertainty in proportion, and 2·e·p·(1 - p) of the busy
joules for a share p under a model that is off by e (it too low by e, all others too high). One request alone owes
nothing to the model. Even so a share is *distributed by a model within a metered window*, and no figure of it says
``measured``.

Refused here: hosts, sites, money; when a window begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isclose, isfinite
from typing import Literal

from msgspec import Struct

from underlay.domain.figures import Figure, Method, weakest
from underlay.ledger.policies import POLICIES, Policy, Weigh, time_share
from underlay.ledger.step_energy import Coefficients, StepModel, Sums, sums_of
from underlay.ledger.steps import Purpose, Step, busy_s

Account = Literal[
    "busy", "idle_provisioned", "scheduler_waste", "failed_attempts", "abandoned_streams", "warming", "unexplained"
]  # fmt: skip

DEVICE_ACCOUNTS: tuple[Account, ...] = (
    "busy", "idle_provisioned", "scheduler_waste", "failed_attempts", "abandoned_streams", "warming", "unexplained"
)  # fmt: skip
ACCOUNT_OF: Mapping[Purpose, Account] = {
    "answer": "busy",
    "recompute": "scheduler_waste",
    "failed": "failed_attempts",
    "abandoned": "abandoned_streams",
    "warming": "warming",
}
#: How far sums may be apart, relative to the meter.
CLOSES = 1e-9
#: Joules that floats cannot divide: the least normal one.
LEAST = 2.3e-308


class Window(Struct, frozen=True):
    """What a meter counted between two looks at it (J), and what the device draws when no step runs (W).

    ``grain_j`` is the part of the meter's uncertainty that comes anew with each window; None: all of it.
    """

    begin_s: float
    end_s: float
    meter: Figure
    idle: Figure
    grain_j: float | None = None

    def __post_init__(self) -> None:
        if (self.meter.unit, self.idle.unit) != ("J", "W") or min(self.meter.value, self.idle.value) < 0.0:
            raise ValueError("A window has joules of at least 0 and idle watts of at least 0.")
        if not self.end_s > self.begin_s:
            raise ValueError(f"A window ends after it begins, got {self.begin_s} to {self.end_s}.")


class Entry(Struct, frozen=True, omit_defaults=True):
    """Joules on an account. ``request`` is whose work it was; empty for what is nobody's.

    ``reading_j`` is off by the meter, alike for all entries of a window; ``split_j`` by the model. None: unknown.
    """

    account: str
    request: str
    joules: float
    method: Method
    reading_j: float | None = None
    split_j: float = 0.0
    tokens: float = 0.0

    def figure(self, meter: str, boundary: str = "accelerators") -> Figure:
        """The entry as a figure."""
        uncertainty = None if self.reading_j is None else self.reading_j + self.split_j
        return Figure(self.joules, "J", self.method, meter, boundary, uncertainty)


class WindowAccounts(Struct, frozen=True):
    """A device's window by accounts; an ``Entry`` for each request and account, and two that are always there.

    ``busy_s`` is the time in which some step ran, ``sums`` what was computed in it, ``rescale`` metered busy joules
    over modelled, None where nothing was modelled. ``entries_made`` is how many entries there are, so that one that
    got lost is missed even at 0 J.
    """

    begin_s: float
    end_s: float
    meter: Figure
    entries: tuple[Entry, ...]
    entries_made: int
    busy_s: float
    sums: Sums
    rescale: float | None
    policy: Policy
    coarse: bool

    @property
    def model_error(self) -> Figure | None:
        """The published error of the step model; None where nothing was modelled."""
        if self.rescale is None:
            return None
        boundary = "busy joules, metered over modelled"
        return Figure(self.rescale, "ratio", self.meter.method, self.meter.meter, boundary)

    @property
    def busy_j(self) -> float:
        """What was distributed to steps."""
        return sum(entry.joules for entry in self.entries if entry.account in ACCOUNT_OF.values())

    def totals(self) -> dict[str, float]:
        """The joules of every account, those of 0 as well."""
        sums: dict[str, float] = dict.fromkeys(DEVICE_ACCOUNTS, 0.0)
        for entry in self.entries:
            sums[entry.account] += entry.joules
        return sums

    def check(self) -> None:
        """Device meter = sum of accounts, nothing dropped, nothing negative. Raises ``AssertionError``."""
        assert len(self.entries) == self.entries_made, (
            f"{self.entries_made - len(self.entries)} entries were dropped"
        )
        names = Counter(entry.account for entry in self.entries)
        assert names.keys() <= set(DEVICE_ACCOUNTS), f"no such account: {names.keys() - set(DEVICE_ACCOUNTS)}"
        assert names["idle_provisioned"] == names["unexplained"] == 1, "idle and unexplained are told once, always"
        assert all(isfinite(entry.joules) and entry.joules >= 0.0 for entry in self.entries), "joules below 0"
        booked = sum(entry.joules for entry in self.entries)
        assert isclose(booked, self.meter.value, rel_tol=CLOSES, abs_tol=LEAST), (
            f"{booked} J booked of {self.meter.value} J metered by {self.meter.meter!r}"
        )


def attribute(
    window: Window, steps: Sequence[Step], model: StepModel, policy: Policy = "shapley"
) -> WindowAccounts:
    """The accounts of a window; steps may come in any order and lie outside. Learns nothing."""
    worked_s = busy_s(steps, window.begin_s, window.end_s)
    idle_s = window.end_s - window.begin_s - worked_s
    idle_j = min(window.idle.value * idle_s, window.meter.value)
    rest_j = window.meter.value - idle_j
    idle_off = None if window.idle.uncertainty is None else window.idle.uncertainty * idle_s
    off = None if idle_off is None or window.meter.uncertainty is None else idle_off + window.meter.uncertainty
    capped = idle_j < window.idle.value * idle_s
    entries = [Entry("idle_provisioned", "", idle_j, window.idle.method, off if capped else idle_off)]
    within = [(step, share) for step in steps if (share := step.share_within(window.begin_s, window.end_s)) > 0.0]
    if within:
        method: Method = model.method if policy in {"shapley", "marginal_only"} else "assumed"
        method = weakest((method, window.meter.method, *((window.idle.method,) if idle_s > 0.0 else ())))
        entries += _shares(within, rest_j, off, model._replace(method=method), policy)
    nobodys_j, nobodys_off = (0.0, 0.0) if within else (rest_j, off)
    entries.append(Entry("unexplained", "", nobodys_j, window.meter.method, nobodys_off))
    sums = sums_of(steps, window.begin_s, window.end_s)
    modelled_j = model.coefficients.joules(sums)
    return WindowAccounts(
        begin_s=window.begin_s,
        end_s=window.end_s,
        meter=window.meter,
        entries=tuple(entries),
        entries_made=len(entries),
        busy_s=worked_s,
        sums=sums,
        rescale=rest_j / modelled_j if modelled_j > 0.0 else None,
        policy=policy,
        coarse=any(step.coarse for step, _ in within),
    )


def _shares(
    within: Sequence[tuple[Step, float]], rest_j: float, off: float | None, model: StepModel, policy: Policy
) -> list[Entry]:
    """The busy joules by request and account, in the order in which they first appear."""
    weights, tokens = _weighed(within, POLICIES[policy], model.coefficients)
    weighed = sum(weights.values())
    if weighed <= 0.0:  # a model that knows no joules: by time, and steps of no time by heads
        weights, _ = _weighed(within, time_share, model.coefficients)
        weighed = sum(weights.values())
    if weighed <= 0.0:
        weights, weighed = dict.fromkeys(weights, 1.0), float(len(weights))
    if not isfinite(weighed):
        raise ValueError("Works of the steps are too large to be weighed.")
    entries = []
    for (request, purpose), weight in weights.items():
        share = weight / weighed
        split_j = min(2.0 * model.error * (1.0 - share), 1.0) * share * rest_j
        reading_j = None if off is None else off * share
        count = tokens[request, purpose]
        entries.append(Entry(ACCOUNT_OF[purpose], request, share * rest_j, model.method, reading_j, split_j, count))
    return entries


_Key = tuple[str, Purpose]


def _weighed(
    within: Sequence[tuple[Step, float]], weigh: Weigh, of: Coefficients
) -> tuple[dict[_Key, float], dict[_Key, float]]:
    weights: dict[_Key, float] = {}
    tokens: dict[_Key, float] = {}
    for step, share in within:
        for work, weight in zip(step.works, weigh(step, of), strict=True):
            key = (work.request, work.purpose)
            weights[key] = weights.get(key, 0.0) + weight * share
            tokens[key] = tokens.get(key, 0.0) + work.tokens * share
    return weights, tokens
