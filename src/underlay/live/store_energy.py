"""How do settled requests and closed windows enter the ledger, so that all of it is what the meters counted?

A request has a row of its own; what is nobody's, and what the meters counted (account ``metered``), is added up by
the hour. Always, over all hours,

    metered = requests + nobody's accounts + open

where ``open`` is what requests took that are not settled yet. Everything is whole microjoules; what rounding
leaves over, a few of them in each record, is ``unexplained``. A request belongs to the hour in which it ended, as
its charge does, a window to that in which it begins: where these are two, ``open`` is less in the one and more in
the other.

What is open when a platform ends without settling it is nobody's for good: the next one calls it ``unsettled``.

Refused here: whose the joules were (``ledger``), and when a request is settled (``live.energy``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from underlay.domain.energy import Booked, RequestEnergy
from underlay.domain.figures import Figure
from underlay.domain.money import PICO_PER_USD
from underlay.domain.views import Journey
from underlay.live.store_schema import MICRO

OPEN, METERED, UNSETTLED, UNEXPLAINED, OVERHEAD = "open", "metered", "unsettled", "unexplained", "overhead"
HOUR_S = 3600

REQUEST_COLUMNS = (
    "request_id, at_s, tenant, key_id, model, region, outcome, microjoules, uncertainty_joules, method, meter,"
    " accounts, unmetered_s, overhead_joules, network_joules, idle_beside_joules, carbon_location_g,"
    " carbon_market_g, carbon_marginal_g, embodied_g, water_on_site_ml, water_off_site_ml, accelerator_pico_usd,"
    " electricity_pico_usd, overhead_pico_usd"
)


class EnergyRecord(Struct, frozen=True):
    """Windows and the requests settled with them; ``open_microjoules`` is by how much ``open`` changes.

    ``first`` is the first one of a platform: what is open before it was left by an earlier one.
    """

    booked: Booked
    journeys: tuple[Journey, ...]
    open_microjoules: int
    first: bool


def write_energy(connection: sqlite3.Connection, record: EnergyRecord) -> None:
    """Enter a record, within the caller's transaction. A request that has a row keeps it and counts once."""
    if record.first:
        _leave_unsettled(connection)
    booked = record.booked
    at = _hour(booked.begin_s)
    nobodys = {account: _micro(joules) for account, joules in booked.accounts.items() if account != OPEN}
    open_by_hour = {at: record.open_microjoules}
    entered = [settled for journey in record.journeys if (settled := _enter(connection, journey, booked.region))]
    for settled in entered:
        for account, micro in settled.accounts.items():
            nobodys[account] = nobodys.get(account, 0) - micro
        open_by_hour[at] += settled.microjoules
        open_by_hour[settled.hour] = open_by_hour.get(settled.hour, 0) - settled.microjoules
    _book(connection, booked, at, _rounded(record, nobodys, entered))
    for hour, micro in open_by_hour.items():
        _add(connection, booked, hour, OPEN, micro)


class _Settled(Struct, frozen=True):
    """A request that was entered: its hour, and its microjoules by account, overhead not among them."""

    hour: int
    accounts: dict[str, int]

    @property
    def microjoules(self) -> int:
        return sum(self.accounts.values())


def _enter(connection: sqlite3.Connection, journey: Journey, region: str) -> _Settled | None:
    """``None`` for a request without figures, or one that is there already."""
    energy = journey.energy
    if energy is None:
        return None
    accounts = {name: _micro(joules) for name, joules in energy.accounts.items() if name != OVERHEAD}
    ended_s = journey.at_s + journey.duration_ms / 1e3  # one that could wait may have arrived the day before
    who = (journey.id, ended_s, journey.tenant, journey.key_id, journey.model, region, journey.outcome)
    microjoules = sum(accounts.values()) if accounts else None
    values = (*who, microjoules, *_known(energy, accounts), *_beside(energy))
    marks = ",".join("?" * len(values))
    entered = connection.execute(
        f"INSERT INTO request_energy ({REQUEST_COLUMNS}) VALUES ({marks}) ON CONFLICT (request_id) DO NOTHING",  # noqa: S608
        values,
    )
    return _Settled(_hour(ended_s), accounts) if entered.rowcount else None


def _known(energy: RequestEnergy, accounts: Mapping[str, int]) -> tuple[float | str | None, ...]:
    text = msgspec.json.encode(accounts).decode()
    return energy.uncertainty_joules, energy.method, energy.meter, text, energy.unmetered_s


def _beside(energy: RequestEnergy) -> tuple[float | int | None, ...]:
    overhead = energy.accounts.get(OVERHEAD, _value(energy.beside, OVERHEAD))
    beside = [_value(energy.beside, name) for name in ("network", "idle_provisioned")]
    carbon = [_value(energy.carbon, view) for view in ("location", "market", "marginal", "embodied")]
    water = [_value(energy.water, where) for where in ("on_site", "off_site")]
    cost = [_value(energy.cost, part) for part in ("accelerator", "electricity", "overhead")]
    pico_usd = [None if amount is None else round(amount * PICO_PER_USD) for amount in cost]
    return overhead, *beside, *carbon, *water, *pico_usd


def _value(figures: Mapping[str, Figure], name: str) -> float | None:
    return figures[name].value if name in figures else None


def _rounded(record: EnergyRecord, nobodys: dict[str, int], entered: Sequence[_Settled]) -> dict[str, int]:
    """Nobody's accounts, where what only rounding left is ``unexplained``, so that they are the sum to the last."""
    total = _micro(sum(record.booked.accounts.values()))
    least = len(entered) + 1
    settled = {account for one in entered for account in one.accounts}
    kept = {name: micro for name, micro in nobodys.items() if name not in settled or abs(micro) > least}
    left = total - record.open_microjoules - sum(one.microjoules for one in entered) - sum(kept.values())
    kept[UNEXPLAINED] = kept.get(UNEXPLAINED, 0) + left
    return kept


def _book(connection: sqlite3.Connection, booked: Booked, hour: int, nobodys: Mapping[str, int]) -> None:
    for account, micro in nobodys.items():
        _add(connection, booked, hour, account, micro)
    exact, total = booked.metered_joules, sum(booked.accounts.values())
    agrees = abs(exact - total) * MICRO < 1.0  # floats, added up in another order
    _add(connection, booked, hour, METERED, _micro(total if agrees else exact))


def _add(connection: sqlite3.Connection, booked: Booked, hour: int, account: str, microjoules: int) -> None:
    if microjoules:
        _add_row(connection, (hour, booked.region, booked.meter, booked.method, account, microjoules))


def _add_row(connection: sqlite3.Connection, row: tuple[int | str, ...]) -> None:
    connection.execute(
        "INSERT INTO metered_energy VALUES (?,?,?,?,?,?) ON CONFLICT (hour, region, meter, method, account)"
        " DO UPDATE SET microjoules = microjoules + excluded.microjoules",
        row,
    )


def _leave_unsettled(connection: sqlite3.Connection) -> None:
    """What an earlier platform left open moves to ``unsettled``, in the last hour that it knew."""
    left = connection.execute(
        "SELECT max(hour), region, meter, method, sum(microjoules) FROM metered_energy WHERE account = ?"
        " GROUP BY region, meter, method HAVING sum(microjoules) <> 0",
        (OPEN,),
    )
    for hour, region, meter, method, micro in left.fetchall():
        _add_row(connection, (hour, region, meter, method, UNSETTLED, micro))
        _add_row(connection, (hour, region, meter, method, OPEN, -micro))


def _micro(joules: float) -> int:
    return round(joules * MICRO)


def _hour(at_s: float) -> int:
    return int(at_s // HOUR_S)
