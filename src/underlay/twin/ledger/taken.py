"""On which account are the joules of a request's attempts?

* what answered is ``busy``, and what of it was computed again after a preemption ``scheduler_waste``;
* an attempt that broke, that a hedge beat or whose request failed is in ``failed_attempts``;
* what was computed for a caller who left is in ``abandoned_streams``.

An engine lets go of a cancelled attempt only when its step is over, which may be after its request was written
down: joules that come late are added to its row. They are moved and never copied, so that all rows of a replica
are all that it drew. Refused here: hosts, cooling, grams, money beyond what was charged.
"""

from __future__ import annotations

from operator import add
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from underlay.twin.exchange import Attempt, Exchange

#: In the order of a row; the first four in joules.
TAKEN = ("busy", "scheduler_waste", "failed_attempts", "abandoned_streams", "revenue_pico_usd")
_BUSY, _WASTE, _FAILED, _ABANDONED = range(4)
_ROW = Struct("<5d")
_JOULES = Struct("<4d")


class Taken:
    """Joules by account, and what was charged, of each request, in the rows' order.

    ``bands`` are the classes of urgency that requests were served in, empty for one that no engine was asked for
    and that named none.
    """

    __slots__ = ("_bands", "_rows", "band_names")

    def __init__(self) -> None:
        self._rows = bytearray()
        self._bands = bytearray()
        self.band_names: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._bands)

    def write(self, exchange: Exchange, outcome: str) -> None:
        """The next row, for what the attempts of an exchange took until now."""
        band = exchange.band or exchange.call.band
        exchange.row = len(self._bands)
        exchange.outcome = outcome
        self._bands.append(self.band_names.setdefault(band, len(self.band_names)))
        self._rows += _ROW.pack(*_moved(exchange), exchange.revenue_pico_usd)

    def add(self, exchange: Exchange) -> None:
        """Move what came to its attempts since into its row."""
        place = exchange.row * _ROW.size
        had = _JOULES.unpack_from(self._rows, place)
        _JOULES.pack_into(self._rows, place, *map(add, had, _moved(exchange)))

    def columns(self) -> dict[str, npt.NDArray[np.float64]]:
        """A column for each of ``TAKEN``, as copies."""
        rows = np.frombuffer(self._rows, dtype="<f8").reshape(-1, len(TAKEN))
        return {name: rows[:, place].copy() for place, name in enumerate(TAKEN)}

    def bands(self) -> npt.NDArray[Any]:
        """The band of each row, by its place in ``band_names``."""
        return np.frombuffer(self._bands, dtype="u1").copy()


def _moved(exchange: Exchange) -> list[float]:
    """The joules that its attempts hold, by account; from here on they hold none."""
    moved = [0.0, 0.0, 0.0, 0.0]
    for attempt in exchange.tried or ():
        account = account_of(attempt, exchange.outcome)
        moved[account] += attempt.joules
        moved[_WASTE if account == _BUSY else account] += attempt.wasted_j
        attempt.joules = attempt.wasted_j = 0.0
    return moved


def account_of(attempt: Attempt, outcome: str) -> int:
    """The account of an attempt, by its place in ``TAKEN``, once its request has ended like that."""
    if outcome == "left":
        return _FAILED if attempt.failed else _ABANDONED
    answers = outcome == "open" or (outcome == "finished" and attempt.finished_at is not None)
    return _BUSY if answers and not attempt.failed else _FAILED
