"""What did each request take: joules, grams, millilitres and money?

    energy            its busy energy and waste, and of its region's hosts what goes with busy accelerators, by the
                      tokens computed for it among those of the same hour
    overhead          power chain and cooling of its region in that hour, as its energy is of all servers'
    carbon, water     of both, as its region's feeders in that hour; marginal and contracts' carbon by the
                      region's rate, whatever the hour
    accelerators      the busy part of the hour's hire (and of what was emitted to make them), as its busy energy
    electricity       of its energy at the hour's tariff, and of its overhead apart from that
    network, idle     beside its energy and never in it: the Internet for its words (``ledger.modelled``), and idle
                      accelerators of the hour as its busy energy

The same as the live ledger's, and what is nobody's stays nobody's: idle accelerators, the rest of the hosts, and
what feeds and cools these. What nobody published is not there. Refused here: groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.domain.figures import JOULES_KWH
from underlay.ledger.modelled import INTERNET_KWH_GB
from underlay.twin.crowd.call import BYTES_PER_TOKEN
from underlay.twin.records import Requests
from underlay.twin.run_ledger import BUSY_ACCOUNTS
from underlay.twin.world import energy_book as book
from underlay.twin.world.power_tree import Floats

from .hours import Hours
from .taken import Taken

PICO = 1e-12
#: Columns of a request, in the order they are told.
COLUMNS = (
    "energy_joules",
    *(f"{name}_joules" for name in (*BUSY_ACCOUNTS, "host", "overhead", "network", "idle_beside")),
    "carbon_location_g",
    "carbon_market_g",
    "carbon_marginal_g",
    "embodied_g",
    "water_on_site_ml",
    "water_off_site_ml",
    "accelerator_usd",
    "electricity_usd",
    "overhead_usd",
    "own_cost_usd",
    "revenue_usd",
    "margin_usd",
)


class Rates(NamedTuple):
    """Of each region: USD and grams of making for all its accelerators in an hour.

    And g/kWh of one kWh more, and by its contracts. Not a number: unknown.
    """

    accelerators_usd_h: Floats
    embodied_g_h: Floats
    marginal_g_kwh: Floats
    market_g_kwh: Floats


def request_columns(requests: Requests, taken: Taken, hours: Hours, rates: Rates) -> dict[str, Floats]:
    """A column for each of ``COLUMNS`` that is known anywhere; nan where it is not. In the order of the rows."""
    served = _Served(requests, taken, hours)
    found = {f"{name}_joules": served.taken[name] for name in BUSY_ACCOUNTS}
    found["host_joules"] = served.by_tokens(book.ACTIVE)
    energy = found["energy_joules"] = served.own + found["host_joules"]
    servers = sum(hours.drawn[kind] for kind in (book.BUSY, book.IDLE, book.HOST))
    over = _over(hours.drawn[book.CHAIN] + hours.drawn[book.COOLING], servers)
    found["overhead_joules"] = energy * served.here(over)
    found["network_joules"] = served.carried_tokens * (BYTES_PER_TOKEN * INTERNET_KWH_GB / 1e9 * JOULES_KWH)
    found["idle_beside_joules"] = served.by_own(book.IDLE)
    fed = energy + found["overhead_joules"]
    found["carbon_location_g"] = fed * served.per_fed_joule(book.CARBON)
    found["carbon_market_g"] = fed / JOULES_KWH * rates.market_g_kwh[served.region]
    found["carbon_marginal_g"] = fed / JOULES_KWH * rates.marginal_g_kwh[served.region]
    found["water_on_site_ml"] = fed * served.per_fed_joule(book.WATER_ON) * 1e3
    found["water_off_site_ml"] = fed * served.per_fed_joule(book.WATER_OFF) * 1e3
    busy_part = served.by_own(book.HOURS) / served.accelerators / 3600.0
    found["embodied_g"] = busy_part * rates.embodied_g_h[served.region]
    found["accelerator_usd"] = busy_part * rates.accelerators_usd_h[served.region]
    usd = served.per_fed_joule(book.PRICE)
    found["electricity_usd"] = energy * usd
    found["overhead_usd"] = found["overhead_joules"] * usd
    found["revenue_usd"] = served.taken["revenue_pico_usd"] * PICO
    found["own_cost_usd"] = found["accelerator_usd"] + found["electricity_usd"] + found["overhead_usd"]
    found["margin_usd"] = found["revenue_usd"] - found["own_cost_usd"]
    return {name: found[name] for name in COLUMNS if not np.isnan(found[name]).all() or not len(requests)}


class _Served:
    """Who was served where and in which hour."""

    def __init__(self, requests: Requests, taken: Taken, hours: Hours) -> None:
        self.taken: Mapping[str, Floats] = taken.columns()
        self.own: Floats = sum((self.taken[name] for name in BUSY_ACCOUNTS), np.zeros(len(requests)))
        places = {name: place for place, name in enumerate(hours.regions)}
        names = requests.names["region"]
        of_name = np.array([places.get(name, -1) for name in names] or [0], dtype=np.int64)
        self.region: npt.NDArray[np.int64] = of_name[requests.column("served_in")]
        held_s = requests.column("held_s").astype(np.float64)  # nothing of it was computed before
        took_s = np.maximum(np.nan_to_num(requests.column("e2e_s")) - held_s, 0.0)
        self.hour = hours.hour_of(requests.column("arrived_s") + held_s + 0.5 * took_s)
        self.hours = hours
        self.accelerators: Floats = np.maximum(hours.accelerators[self.region], 1.0)
        said = requests.column("prompt_tokens") + requests.column("output_tokens")
        self.tokens = (said - requests.column("cached_tokens")) * (self.own > 0.0)
        self.carried_tokens = said * (self.own > 0.0)

    def here(self, of_hours: Floats) -> Floats:
        """The value of each request's hour and region."""
        return of_hours[self.hour, self.region]

    def by_tokens(self, kind: int) -> Floats:
        """What was drawn in an hour, to the requests of it by their tokens; what had none is nobody's."""
        rate: Floats = _over(self.hours.drawn[kind], self._sum(self.tokens))
        found: Floats = self.tokens * self.here(rate)
        return found

    def per_fed_joule(self, kind: int) -> Floats:
        """A column of the book for each joule of the feeder, nan where a site of the region could not tell it."""
        rate = _over(self.hours.drawn[kind], self.hours.drawn[book.FEEDER])
        return self.here(np.where(self.hours.known[kind], rate, np.nan))

    def by_own(self, kind: int) -> Floats:
        """What was drawn in an hour, to the requests of it by their own joules."""
        found: Floats = self.own * self.here(_over(self.hours.drawn[kind], self._sum(self.own)))
        return found

    def _sum(self, values: Floats) -> Floats:
        shape = self.hours.drawn[0].shape
        flat = np.bincount(self.hour * shape[1] + self.region, values, minlength=shape[0] * shape[1])
        return flat.reshape(shape)


def _over(value: Floats, of: Floats) -> Floats:
    """A ratio, 0 where there is nothing to divide by."""
    return np.divide(value, of, out=np.zeros_like(value), where=of > 0.0)
