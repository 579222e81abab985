"""What does an accelerator cost by the hour?

Dated list prices, on demand, of providers with machines of their own (``data/accelerator_prices.csv``); markets of
strangers' machines are left out, as those are no tier of service. Prices move by the month: the band says how far
they lie apart, ``dates`` how old they are. Refused here: reserved terms, spot, taxes, and everything but
accelerators.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from statistics import median
from typing import NamedTuple

from underlay.physics.tables import rows


class HourPrice(NamedTuple):
    """US dollars for one accelerator and hour: the middle and the ends of what is asked, by how many, and when."""

    usd: float
    least_usd: float
    most_usd: float
    offers: int
    dates: tuple[str, str]

    @property
    def note(self) -> str:
        """How to say it."""
        return (
            f"{self.usd:.2f} USD/h ({self.least_usd:.2f} to {self.most_usd:.2f}, {self.offers} list prices of "
            f"{self.dates[0]} to {self.dates[1]})"
        )


@cache
def hour_prices() -> Mapping[str, HourPrice]:
    """All that are known."""
    offers: dict[str, list[tuple[float, str]]] = {}
    for row in rows("accelerator_prices.csv"):
        if row["hosts"] == "own":
            offers.setdefault(row["accelerator"], []).append((float(row["usd_per_hour"]), row["date"]))
    return {name: _of([usd for usd, _ in found], [date for _, date in found]) for name, found in offers.items()}


def _of(usd: list[float], dates: list[str]) -> HourPrice:
    return HourPrice(median(usd), min(usd), max(usd), len(usd), (min(dates), max(dates)))
