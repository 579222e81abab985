"""What did each tenant, model, region and band take in a run, and what is nobody's?

Sums over requests, with how each is known. What is nobody's is told by region: idle accelerators, the part of the
hosts that no request moves, and what feeds and cools these. Together they are what the region's feeders delivered
(``RunLedger.check``). Busy energy may be off by as much as the power curve; a group's part of it also by how far
the step model may shift joules between requests (``underlay.ledger.attribution``). For the rest nobody knows.

Refused here: single requests, and where in a site it went (``world.place_book``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.domain.figures import Figure, Method, weakest
from underlay.ledger.modelled import INTERNET_SPREAD
from underlay.twin.records import Requests
from underlay.twin.run_ledger import BUSY_ACCOUNTS, Line, RunLedger
from underlay.twin.world import energy_book as book
from underlay.twin.world.power_tree import Floats

from .hours import Hours
from .requests import Rates
from .taken import Taken

#: What lines are grouped by, and the names that requests have for it.
GROUPS = {"tenant": "tenant", "model": "model", "region": "served_in", "band": "band"}
#: Lines of a group beyond this many (the largest stay) are added up in one.
LINES_MAX = 40
OTHERS = "(others)"

_UNITS = {"joules": "J", "g": "gCO2e", "ml": "mL", "usd": "USD"}
_BOUNDARIES = {
    "energy_joules": "accelerators and host, without what is idle",
    **{f"{name}_joules": "accelerators while they compute" for name in BUSY_ACCOUNTS},
    "host_joules": "of the hosts, what goes with busy accelerators",
    "overhead_joules": "power chain and cooling",
    "network_joules": "Internet, fixed lines, average allocation: words of prompts and answers",
    "idle_beside_joules": "idle accelerators, by busy joules in the same hours",
    "carbon_location_g": "joules and overhead, average of the grid in that hour",
    "carbon_market_g": "joules and overhead, by the contracts that the scenario states",
    "carbon_marginal_g": "joules and overhead, one kilowatt-hour more",
    "embodied_g": "making of accelerator and host, over its life",
    "water_on_site_ml": "joules and overhead, evaporated by cooling on site",
    "water_off_site_ml": "joules and overhead, evaporated by power stations",
    "accelerator_usd": "hire of accelerators while they compute",
    "electricity_usd": "electricity of the servers",
    "overhead_usd": "electricity of power chain and cooling",
    "own_cost_usd": "accelerators, electricity and overhead",
    "revenue_usd": "tokens at the models' prices",
    "margin_usd": "revenue less the cost of accelerators, electricity and overhead",
    "idle_provisioned_joules": "accelerators that are on and wait",
    "host_shared_joules": "of the hosts, what no request moves",
}
_NOBODYS_HIRE = "hire of accelerators while they do not compute"
#: What is nobody's, but does not hang on what accelerators draw when they wait.
_WITHOUT_IDLE = {"host_shared_joules", "embodied_g", "accelerator_usd"}


class Known(NamedTuple):
    """How figures are known: by column of the energy book, and the relative errors of watts and step models."""

    methods: Mapping[int, Method]
    watts_error: float
    step_method: Method
    step_error: float


def run_ledger(
    requests: Requests, taken: Taken, columns: dict[str, Floats], hours: Hours, rates: Rates, known: Known
) -> RunLedger:
    """Add up the columns of all requests; checked."""
    told = _Told(known)
    everybody = np.ones(len(requests), dtype=np.bool_)
    own = sum((columns[f"{name}_joules"] for name in BUSY_ACCOUNTS), np.zeros(len(requests)))
    whole_j = float(own.sum())
    groups: dict[str, tuple[Line, ...]] = {}
    for kind, column in GROUPS.items():
        places, names = _named(requests, taken, column)
        lines = [_line(name, places == place, columns, told, whole_j) for place, name in enumerate(names)]
        groups[kind] = _largest(lines) if kind != "region" else tuple(lines)
    drawn = hours.drawn.sum(axis=1)
    regions = {line.name: line for line in groups["region"]}
    nobodys = tuple(
        _nobodys(name, regions.get(name), drawn[:, place], hours, rates, told)
        for place, name in enumerate(hours.regions)
    )
    found = RunLedger(
        _line("", everybody, columns, told, whole_j),
        groups,
        nobodys,
        {name: float(drawn[book.FEEDER, place]) for place, name in enumerate(hours.regions)},
        {name: float(drawn[book.BUSY, place]) for place, name in enumerate(hours.regions)},
        {name: float(drawn[book.IT, place]) for place, name in enumerate(hours.regions)},
        {name: hours.idle_share(place) for place, name in enumerate(hours.regions)},
        columns,
        taken.bands().astype(np.int64),
        list(taken.band_names),
    )
    found.check()
    return found


class _Told:
    """Sums as figures."""

    def __init__(self, known: Known) -> None:
        self._known = known
        methods = known.methods
        busy = weakest([methods[book.BUSY], known.step_method])
        server = weakest([busy, methods[book.HOST]])
        overhead = weakest([server, methods[book.CHAIN], methods[book.COOLING]])
        hire = weakest([busy, "assumed"])
        self._methods: dict[str, Method] = {
            "energy_joules": server,
            **dict.fromkeys((f"{name}_joules" for name in BUSY_ACCOUNTS), busy),
            "host_joules": weakest([methods[book.HOST], "modelled"]),
            "overhead_joules": overhead,
            "network_joules": "assumed",
            "idle_beside_joules": weakest([busy, methods[book.IDLE]]),
            "carbon_location_g": weakest([overhead, methods[book.CARBON]]),
            "carbon_market_g": weakest([overhead, "assumed"]),
            "carbon_marginal_g": weakest([overhead, "modelled"]),
            "embodied_g": weakest([busy, "modelled"]),
            "water_on_site_ml": weakest([overhead, methods[book.WATER_ON]]),
            "water_off_site_ml": weakest([overhead, methods[book.WATER_OFF]]),
            "accelerator_usd": hire,
            "electricity_usd": weakest([server, methods[book.PRICE]]),
            "overhead_usd": weakest([overhead, methods[book.PRICE]]),
            "own_cost_usd": weakest([hire, overhead, methods[book.PRICE]]),
            "revenue_usd": "modelled",
            "margin_usd": weakest([hire, overhead, methods[book.PRICE]]),
            "idle_provisioned_joules": methods[book.IDLE],
            "host_shared_joules": methods[book.HOST],
        }

    def figure(self, name: str, value: float, share: float = 1.0) -> Figure:
        """A column's sum, of those who have that share of all busy joules."""
        off = None
        if name.removesuffix("_joules") in BUSY_ACCOUNTS:
            split = min(2.0 * self._known.step_error * (1.0 - share), 1.0)
            off = abs(value) * (self._known.watts_error + split)
        elif name == "network_joules":
            off = value * (INTERNET_SPREAD - 1.0)
        unit = _UNITS[name.rpartition("_")[2]]
        return Figure(value, unit, self._methods[name], "", _BOUNDARIES[name], off)

    def nobodys(self, name: str, value: float) -> Figure:
        """A column's sum of what is nobody's; where idle energy is in it, known no better than that is."""
        boundary = _NOBODYS_HIRE if name == "accelerator_usd" else None
        method = None if name in _WITHOUT_IDLE else self._known.methods[book.IDLE]
        return self.figure(name, value).times(1.0, boundary=boundary, method=method)


def _line(
    name: str, which: npt.NDArray[np.bool_], columns: Mapping[str, Floats], told: _Told, whole_j: float
) -> Line:
    sums = {column: float(values[which].sum()) for column, values in columns.items()}
    own_j = sum(sums[f"{account}_joules"] for account in BUSY_ACCOUNTS)
    share = own_j / whole_j if whole_j > 0.0 else 1.0
    figures = {column: told.figure(column, value, share) for column, value in sums.items() if not np.isnan(value)}
    return Line(name, float(which.sum()), figures)


def _largest(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The largest first; beyond ``LINES_MAX`` they are added up."""
    ranked = sorted(lines, key=lambda line: -line.value("energy_joules"))
    if len(ranked) <= LINES_MAX:
        return tuple(ranked)
    rest = ranked[LINES_MAX:]
    names = [name for name in rest[0].figures if all(name in line.figures for line in rest)]
    figures = {
        name: Figure(
            sum(line.value(name) for line in rest),
            rest[0].figures[name].unit,
            weakest(line.figures[name].method for line in rest),
            boundary=rest[0].figures[name].boundary,
        )
        for name in names
    }
    return (*ranked[:LINES_MAX], Line(OTHERS, sum(line.requests for line in rest), figures))


def _named(requests: Requests, taken: Taken, column: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    if column == "band":
        return taken.bands().astype(np.int64), list(taken.band_names)
    kind = "region" if column == "served_in" else column
    return requests.column(column).astype(np.int64), requests.names[kind]


def _nobodys(name: str, theirs: Line | None, drawn: Floats, hours: Hours, rates: Rates, told: _Told) -> Line:
    """What a region took beside its requests."""
    place = hours.regions.index(name)
    took = theirs or Line(name, 0.0, {})
    figures = {
        "idle_provisioned_joules": drawn[book.IDLE],
        "host_shared_joules": drawn[book.HOST] - took.value("host_joules"),
        "overhead_joules": drawn[book.CHAIN] + drawn[book.COOLING] - took.value("overhead_joules"),
    }
    if hours.known[book.CARBON, place]:
        figures["carbon_location_g"] = drawn[book.CARBON] - took.value("carbon_location_g")
    for kind, column in ((book.WATER_ON, "water_on_site_ml"), (book.WATER_OFF, "water_off_site_ml")):
        if hours.known[kind, place]:
            figures[column] = drawn[kind] * 1e3 - took.value(column)
    if hours.known[book.PRICE, place]:
        usd = drawn[book.PRICE] - took.value("electricity_usd") - took.value("overhead_usd")
        over = figures["overhead_joules"] / max(sum(figures[each] for each in _NOBODYS_J), 1e-300)
        figures["electricity_usd"], figures["overhead_usd"] = usd * (1.0 - over), usd * over
    fed_kwh = drawn[book.FEEDER] / 3.6e6
    whole = {
        "carbon_market_g": fed_kwh * rates.market_g_kwh[place],
        "carbon_marginal_g": fed_kwh * rates.marginal_g_kwh[place],
        "embodied_g": rates.embodied_g_h[place] * hours.ends_s[-1] / 3600.0,
        "accelerator_usd": rates.accelerators_usd_h[place] * hours.ends_s[-1] / 3600.0,
    }
    figures |= {column: value - took.value(column) for column, value in whole.items() if not np.isnan(value)}
    return Line(name, 0.0, {column: told.nobodys(column, float(value)) for column, value in figures.items()})


_NOBODYS_J = ("idle_provisioned_joules", "host_shared_joules", "overhead_joules")
