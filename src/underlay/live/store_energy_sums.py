"""Whose were the joules that the meters counted in a period, and what did they make?

    the meters' sum = requests + what is nobody's

to the last microjoule. Requests are of a period by their end, as charges are; meters by whole hours, those that
begin in the period. What lies across an edge is told as ``carried_over``: joules metered in the period for requests
of another, less those that its own requests took outside of it. Without edges there is none.

A sum of grams, millilitres or own cost is of metered requests, and unknown where it is unknown for one of them.
Refused here: how a request comes by its figures (``live.energy``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from underlay.domain.figures import weakest
from underlay.live.store_energy import HOUR_S, METERED, OPEN, UNSETTLED
from underlay.live.store_schema import HALF
from underlay.live.store_sums import GROUP_COLUMN, PERIOD, Group, Rows

CARRIED_OVER = "carried_over"
COST_PARTS = ("accelerator", "electricity", "overhead")
#: What of a request is added up only where all of it is known.
FIGURES = (
    "uncertainty_joules", "overhead_joules", "network_joules", "idle_beside_joules", "carbon_location_g",
    "carbon_market_g", "carbon_marginal_g", "embodied_g", "water_on_site_ml", "water_off_site_ml",
)  # fmt: skip
_CHARGED = "(SELECT cost_pico_usd FROM charges WHERE charges.request_id = request_energy.request_id)"
_MICRO_SUM = f"coalesce(sum(microjoules / {HALF}), 0), coalesce(sum(microjoules % {HALF}), 0)"
_HOURS = f"(?1 IS NULL OR hour * {HOUR_S} >= ?1) AND (?2 IS NULL OR hour * {HOUR_S} < ?2)"
#: By what the table of hours is grouped: what is nobody's is of no tenant, key or model.
_HOUR_DAY = f"strftime('%Y-%m-%d', hour * {HOUR_S}, 'unixepoch')"
_HOUR_COLUMN: dict[Group, str] = {
    "tenant": "''", "key": "''", "model": "''", "region": "region", "day": _HOUR_DAY,
    "cell": f"json_array({_HOUR_DAY}, '', '', region)",
}  # fmt: skip


class EnergySum(Struct, frozen=True):
    """What metered requests took. Joules by the meters, whole microjoules; ``method`` is that of the weakest.

    ``accounts`` are microjoules. ``figures`` has what is known for all of the requests, by its column; there
    ``uncertainty_joules`` adds up straight, so it is the most that they may be off. ``charged_pico_usd`` is what
    was charged for them; ``cost_pico_usd`` what they cost us by part, as far as known; a part is in
    ``cost_lacks`` where it is not known for every request.
    """

    group: str
    requests: int
    microjoules: int
    method: str
    figures: dict[str, float]
    charged_pico_usd: int
    cost_pico_usd: dict[str, int]
    cost_lacks: tuple[str, ...]
    accounts: dict[str, int]


class NobodysSum(Struct, frozen=True):
    """What is no request's, by account; ``group`` is a region or day, else empty."""

    group: str
    account: str
    microjoules: int
    method: str


class MeterSum(Struct, frozen=True):
    """What a meter counted, and how it is known."""

    meter: str
    method: str
    microjoules: int


class EnergyLedger(Struct, frozen=True):
    """A period's energy: what requests took, what is nobody's, and what the meters counted."""

    groups: list[EnergySum]
    total: EnergySum
    nobodys: list[NobodysSum]
    meters: list[MeterSum]

    @property
    def metered_microjoules(self) -> int:
        """What the meters counted."""
        return sum(meter.microjoules for meter in self.meters)

    @property
    def difference_microjoules(self) -> int:
        """What the meters counted more than is accounted for; anything but 0 is a fault."""
        nobodys = sum(nobody.microjoules for nobody in self.nobodys)
        return self.metered_microjoules - self.total.microjoules - nobodys


def energy_ledger(
    rows: Rows, by: Group, since_s: float | None, until_s: float | None, *, running: bool
) -> EnergyLedger:
    """The energy of a period. ``running``: whether a platform lives that may still settle what is open."""
    period = (since_s, until_s)
    meters = rows(
        f"SELECT meter, method, {_MICRO_SUM} FROM metered_energy WHERE {_HOURS} AND account = ?3"  # noqa: S608
        " GROUP BY meter, method ORDER BY meter, method",
        *period,
        METERED,
    )
    groups = energy_sums(rows, GROUP_COLUMN[by], *period)
    return EnergyLedger(
        groups,
        _total(groups),
        _nobodys(rows, by, period, OPEN if running else UNSETTLED),
        [MeterSum(meter, method, high * HALF + low) for meter, method, high, low in meters],
    )


def energy_sums(rows: Rows, grouped: str, since_s: float | None, until_s: float | None) -> list[EnergySum]:
    """What metered requests of a period took, by an expression over their columns."""
    figures = ", ".join(f"CASE WHEN count({name}) = count(*) THEN sum({name}) END" for name in FIGURES)
    costs = ", ".join(_cost_sums(column) for column in (*(f"{part}_pico_usd" for part in COST_PARTS), _CHARGED))
    where = f"FROM request_energy{{}} WHERE microjoules IS NOT NULL AND {PERIOD}"
    accounts: dict[str, dict[str, int]] = {}
    for group, account, high, low in rows(
        f"SELECT {grouped} AS grouped, part.key, sum(part.value / {HALF}), sum(part.value % {HALF}) "
        + where.format(", json_each(accounts) AS part") + " GROUP BY grouped, part.key",
        since_s, until_s,
    ):  # fmt: skip
        accounts.setdefault(group, {})[account] = high * HALF + low
    found = rows(
        f"SELECT {grouped} AS grouped, count(*), group_concat(DISTINCT method), {_MICRO_SUM}, {figures}, {costs} "
        + where.format("") + " GROUP BY grouped ORDER BY grouped",
        since_s, until_s,
    )  # fmt: skip
    return [_energy_sum(row, accounts.get(row[0], {})) for row in found]


def _total(groups: Sequence[EnergySum]) -> EnergySum:
    if not groups:
        return _NOTHING
    known = [name for name in FIGURES if all(name in one.figures for one in groups)]
    return EnergySum(
        "",
        sum(one.requests for one in groups),
        sum(one.microjoules for one in groups),
        _weakest(",".join(one.method for one in groups)),
        {name: sum(one.figures[name] for one in groups) for name in known},
        sum(one.charged_pico_usd for one in groups),
        _added(one.cost_pico_usd for one in groups),
        tuple(part for part in COST_PARTS if any(part in one.cost_lacks for one in groups)),
        _added(one.accounts for one in groups),
    )


def _added(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in parts:
        for name, amount in part.items():
            sums[name] = sums.get(name, 0) + amount
    return sums


def _cost_sums(column: str) -> str:
    return f"count({column}), sum({column} / {HALF}), sum({column} % {HALF})"


def _energy_sum(row: tuple[Any, ...], accounts: dict[str, int]) -> EnergySum:
    group, requests, methods, high, low = row[:5]
    figures, costs = row[5 : 5 + len(FIGURES)], row[5 + len(FIGURES) :]
    known: dict[str, int] = {}
    lacks = []
    for place, part in enumerate(COST_PARTS):
        count, cost_high, cost_low = costs[3 * place : 3 * place + 3]
        if count:
            known[part] = cost_high * HALF + cost_low
        if count < requests:
            lacks.append(part)
    charged_high, charged_low = costs[-2:]
    charged = (charged_high or 0) * HALF + (charged_low or 0)
    told = {name: value for name, value in zip(FIGURES, figures, strict=True) if value is not None}
    return EnergySum(
        group, requests, high * HALF + low, _weakest(methods), told, charged, known, tuple(lacks), accounts
    )


def _weakest(methods: str) -> str:
    known = [method for method in methods.split(",") if method]
    return weakest(known) if known else ""


def nothing() -> EnergyLedger:
    """The ledger of a store that is not there."""
    return EnergyLedger([], _NOTHING, [], [])


_NOTHING = EnergySum("", 0, 0, "", {}, 0, {}, (), {})


def _nobodys(rows: Rows, by: Group, period: tuple[float | None, float | None], open_name: str) -> list[NobodysSum]:
    sums: dict[tuple[str, str], int] = {}
    methods: dict[tuple[str, str], str] = {}
    told = rows(
        f"SELECT {_HOUR_COLUMN[by]} AS grouped, account, group_concat(DISTINCT method), {_MICRO_SUM}"  # noqa: S608
        f" FROM metered_energy WHERE {_HOURS} AND account <> ?3 GROUP BY grouped, account",
        *period,
        METERED,
    )
    for group, account, method, high, low in told:
        name = CARRIED_OVER if account == OPEN else account
        sums[group, name] = high * HALF + low
        methods[group, name] = _weakest(method)
    for group, micro in _still_open(rows, by, period):
        _move(sums, methods, (group, CARRIED_OVER), (group, open_name), micro)
    for group, micro in _beyond_hours(rows, by, period):
        sums[group, CARRIED_OVER] = sums.get((group, CARRIED_OVER), 0) + micro
    return [
        NobodysSum(group, account, micro, methods.get((group, account), ""))
        for (group, account), micro in sorted(sums.items())
        if micro
    ]


def _move(
    sums: dict[tuple[str, str], int],
    methods: dict[tuple[str, str], str],
    source: tuple[str, str],
    to: tuple[str, str],
    micro: int,
) -> None:
    sums[source] = sums.get(source, 0) - micro
    sums[to] = sums.get(to, 0) + micro
    known = [methods[place] for place in (source, to) if methods.get(place)]
    methods[to] = weakest(known) if known else ""


def _still_open(rows: Rows, by: Group, period: tuple[float | None, float | None]) -> Iterable[tuple[str, int]]:
    """What is open now, in the group of the last hour in which anything was; none if that is out of the period."""
    found = rows(
        f"WITH still AS (SELECT {_HOUR_COLUMN[by]} AS grouped, max(hour) AS hour,"  # noqa: S608
        f" sum(microjoules / {HALF}) AS high, sum(microjoules % {HALF}) AS low"
        " FROM metered_energy WHERE account = ?3 GROUP BY region)"
        f" SELECT grouped, high, low FROM still WHERE {_HOURS}",
        *period,
        OPEN,
    )
    return [(group, high * HALF + low) for group, high, low in found if high or low]


def _beyond_hours(rows: Rows, by: Group, period: tuple[float | None, float | None]) -> Iterable[tuple[str, int]]:
    """What requests of the period's hours took, less what those took that ended within the period itself."""
    if all(edge is None or edge % HOUR_S == 0 for edge in period):
        return []
    group = _HOUR_COLUMN[by].replace(_HOUR_DAY, GROUP_COLUMN["day"])
    hour = f"CAST(at_s / {HOUR_S} AS INTEGER)"
    inside = _HOURS.replace("hour", hour)
    counted = f"microjoules * (({inside}) - ({PERIOD}))"
    found = rows(
        f"SELECT {group} AS grouped, sum({counted} / {HALF}), sum({counted} % {HALF}) FROM request_energy"  # noqa: S608
        f" WHERE microjoules IS NOT NULL AND ({inside}) <> ({PERIOD}) GROUP BY grouped",
        *period,
    )
    return [(name, high * HALF + low) for name, high, low in found]
