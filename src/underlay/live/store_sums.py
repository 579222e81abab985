"""What do all charges of a period come to, by tenant, key, model, region or day?

Exact beyond 64 bits. A charge is of its request's end; its region is that in which its joules were metered,
and empty where none were. Refused here: joules (``live.store_energy_sums``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from underlay.domain.answer import Usage
from underlay.live.store_schema import HALF

#: ``cell``: day, tenant, model and region at once, as a JSON list.
Group = Literal["tenant", "key", "model", "region", "day", "cell"]

_DAY = "strftime('%Y-%m-%d', at_s, 'unixepoch')"
_MET = "coalesce((SELECT region FROM request_energy AS met WHERE met.request_id = charges.request_id), '')"
#: By what a table with a request in each row is grouped.
GROUP_COLUMN: dict[Group, str] = {
    "tenant": "tenant",
    "key": "key_id",
    "model": "model",
    "region": "region",
    "day": _DAY,
    "cell": f"json_array({_DAY}, tenant, model, region)",
}
_CHARGE_COLUMN: dict[Group, str] = GROUP_COLUMN | {
    "region": _MET,
    "cell": f"json_array({_DAY}, tenant, model, {_MET})",
}
PERIOD = "(?1 IS NULL OR at_s >= ?1) AND (?2 IS NULL OR at_s < ?2)"
_SUMS = (
    "count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0),"
    f" coalesce(sum(completion_tokens), 0), coalesce(sum(cost_pico_usd / {HALF}), 0),"
    f" coalesce(sum(cost_pico_usd % {HALF}), 0)"
)


class Rows(Protocol):
    """Asks the store: a statement and its values."""

    def __call__(self, statement: str, *values: Any) -> list[Any]:
        """All rows."""


class LedgerSum(Struct, frozen=True):
    """Charges added up. ``group`` is the tenant, key, model, region, UTC day or cell; empty for the sum of all."""

    group: str
    requests: int
    usage: Usage
    cost_pico_usd: int


def ledger_sums(rows: Rows, by: Group, since_s: float | None, until_s: float | None) -> list[LedgerSum]:
    """The sums of a period by group, in the order of their names."""
    statement = f"SELECT {_CHARGE_COLUMN[by]} AS grouped, {_SUMS} FROM charges WHERE {PERIOD}"  # noqa: S608
    return [_sum(row) for row in rows(f"{statement} GROUP BY grouped ORDER BY grouped", since_s, until_s)]


def totals(rows: Rows, since_s: float | None, until_s: float | None) -> LedgerSum:
    """The sum of a period."""
    return _sum(rows(f"SELECT '', {_SUMS} FROM charges WHERE {PERIOD}", since_s, until_s)[0])  # noqa: S608


def _sum(row: Sequence[Any]) -> LedgerSum:
    group, requests, prompt, cached, completion, cost_high, cost_low = row
    return LedgerSum(group, requests, Usage(prompt, cached, completion), cost_high * HALF + cost_low)
