"""How often does what break, how much goes down with it, and how long until it is back?

Rates are of the longest published run of one large machine, so they are those of training, day and night
(``data/failures.csv``); switches are apart. Repair times are mostly assumed: nobody publishes them
(``data/repairs.csv`` says which). They are lognormal (Schroeder and Gibson, DSN 2006). Refused here: what runs on
what broke, dice, clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from underlay.physics.tables import rows

#: What goes down together. The process of an engine breaks without any hardware doing so.
Domain = Literal["accelerator", "process", "server", "rack", "site"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)


@dataclass(frozen=True, slots=True)
class FailureRate:
    """One kind of failure. ``per_s`` is for one accelerator, or for one rack or site if ``counted`` says so."""

    component: str
    domain: Domain
    counted: Literal["accelerator", "rack", "site"]
    per_s: float
    method: str
    source: str


@dataclass(frozen=True, slots=True)
class Repair:
    """One way of repairing. Seconds: the mean, and the sigma of their logarithm (0: always the mean)."""

    domain: Domain
    kind: str
    share: float
    mean_s: float
    sigma: float
    method: str
    source: str


@cache
def failure_rates() -> Sequence[FailureRate]:
    """All kinds of failures."""
    return tuple(
        FailureRate(
            component=row["component"],
            domain=_domain(row["domain"]),
            counted=_counted(row["per"]),
            per_s=float(row["rate"]) / 1e6 / 3600.0,
            method=row["method"],
            source=row["source"],
        )
        for row in rows("failures.csv")
    )


@cache
def repairs() -> Mapping[Domain, Sequence[Repair]]:
    """The ways of repairing, by what is down; their shares add up to 1."""
    found: dict[Domain, list[Repair]] = {domain: [] for domain in DOMAINS}
    for row in rows("repairs.csv"):
        domain = _domain(row["domain"])
        found[domain].append(
            Repair(
                domain=domain,
                kind=row["kind"],
                share=float(row["share"]),
                mean_s=float(row["mean_h"]) * 3600.0,
                sigma=float(row["sigma"]),
                method=row["method"],
                source=row["source"],
            )
        )
    return found


def _domain(text: str) -> Domain:
    return next(domain for domain in DOMAINS if domain == text)


def _counted(text: str) -> Literal["accelerator", "rack", "site"]:
    if text == "1e6 rack-hours":
        return "rack"
    if text == "1e6 site-hours":
        return "site"
    assert text == "1e6 accelerator-hours", text
    return "accelerator"
