"""What did one request take, over all the windows that it was in?

A request is *provisional* until its last window is closed, which is after its last token; then it is *settled*, by
how it ended. What was booked as ``busy`` for an attempt that failed, or for a caller who left, moves to an account
of its own with it: moved, not booked again, so the sums stay those of the meters (``check``). The id is that of an
attempt where requests are tried more than once.

A request's readings are shares of one counter over windows on end, so their errors telescope
(``figures.over_windows``); what the step model may be off by adds up straight. Idle time is never in a request's
joules; ``idle_beside`` says how much of it would be its own if idle time went to who was busy in the same window.

Refused here: when a window closes, and where statements are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import Literal

from msgspec import Struct

from underlay.domain.figures import Figure, Method, total, weakest
from underlay.ledger.attribution import CLOSES, LEAST, Account, Entry, WindowAccounts
from underlay.ledger.node import NodeAccounts

Ending = Literal["answered", "failed", "abandoned"]
_BUSY_MOVES: Mapping[Ending, Account] = {
    "answered": "busy",
    "failed": "failed_attempts",
    "abandoned": "abandoned_streams",
}


class Statement(Struct, frozen=True, omit_defaults=True):
    """A request's accounts as figures. ``idle_beside`` is not in them; ``ending`` is empty while provisional."""

    request: str
    status: Literal["provisional", "settled"]
    accounts: dict[str, Figure]
    idle_beside: Figure
    windows: int
    ending: str = ""

    @property
    def energy(self) -> Figure | None:
        """All its accounts together; None if it was in no window."""
        return total(list(self.accounts.values())) if self.accounts else None

    @property
    def it_energy(self) -> Figure | None:
        """All but the overhead: what a footprint is reckoned from."""
        inside = [figure for name, figure in self.accounts.items() if name != "overhead"]
        return total(inside) if inside else None


class _Line:
    """An account of one request by one meter, over windows."""

    __slots__ = ("_last_j", "_moved_j", "_split_j", "_unknown", "_until_s", "joules", "method")

    def __init__(self) -> None:
        self.joules = 0.0
        self.method: Method = "measured"
        self._split_j = self._moved_j = self._last_j = 0.0
        self._until_s = float("-inf")
        self._unknown = False

    def add(self, entry: Entry, begin_s: float, end_s: float) -> None:
        """The next window's entry; after a gap its share was 0 in between."""
        reading_j = entry.reading_j
        self._unknown = self._unknown or reading_j is None
        now_j = reading_j or 0.0
        follows = begin_s == self._until_s
        self._moved_j += abs(now_j - self._last_j) if follows else self._last_j + now_j
        self._last_j, self._until_s = now_j, end_s
        self._split_j += entry.split_j
        self.joules += entry.joules
        self.method = weakest((self.method, entry.method))

    def figure(self, meter: str, boundary: str) -> Figure:
        """The account as it stands."""
        off = None if self._unknown else (self._moved_j + self._last_j) / 2 + self._split_j
        return Figure(self.joules, "J", self.method, meter, boundary, off)


class _Lines:
    """All that is known of one request that is not settled."""

    __slots__ = ("by_account", "idle_j", "tokens", "until_s", "windows")

    def __init__(self) -> None:
        self.by_account: dict[tuple[str, str], _Line] = {}
        self.tokens = 0.0
        self.idle_j = 0.0
        self.windows = 0
        self.until_s = float("-inf")


class Statements:
    """The requests that are not settled, and the sums of everything that ever was booked."""

    __slots__ = ("_booked_j", "_metered_j", "_open")

    def __init__(self) -> None:
        self._open: dict[str, _Lines] = {}
        self._booked_j: dict[str, float] = {}
        self._metered_j = 0.0

    def book(self, window: WindowAccounts | NodeAccounts) -> None:
        """Book a closed window; those of one meter in their order."""
        if isinstance(window, NodeAccounts):
            for device in window.devices:
                self._device(device)
            self._metered_j += sum(entry.joules for entry in window.entries)
            for entry in window.entries:
                self._entry(entry, window.host_meter, window.begin_s, window.end_s)
        else:
            self._device(window)

    def provisional(self, request: str) -> Statement:
        """What is known so far."""
        return _statement(request, self._open.get(request) or _Lines(), "provisional", "answered")

    def has_booked(self, request: str) -> bool:
        """Whether any window had it."""
        return request in self._open

    def booked_tokens(self, request: str) -> float:
        """The tokens, read and decoded, that its accounts are for so far; a step counts by its booked share."""
        lines = self._open.get(request)
        return 0.0 if lines is None else lines.tokens

    def settle(self, request: str, ending: Ending) -> Statement:
        """The last word; call it when the window of its end is closed. What comes after it would open it anew."""
        lines = self._open.pop(request, None) or _Lines()
        to = _BUSY_MOVES[ending]
        moved_j = sum(line.joules for (account, _), line in lines.by_account.items() if account == "busy")
        self._booked_j["busy"] = self._booked_j.get("busy", 0.0) - moved_j
        self._booked_j[to] = self._booked_j.get(to, 0.0) + moved_j
        return _statement(request, lines, "settled", ending)

    def totals(self) -> dict[str, float]:
        """The joules of every account since the beginning, settled or not."""
        return dict(self._booked_j)

    def check(self) -> None:
        """All accounts together are all that was metered, and overhead on top of it. Raises ``AssertionError``."""
        booked = sum(self._booked_j.values())
        size = sum(map(abs, self._booked_j.values()))
        assert isclose(booked, self._metered_j, rel_tol=0.0, abs_tol=CLOSES * size + LEAST), (
            f"{booked} J booked of {self._metered_j} J"
        )

    def _device(self, window: WindowAccounts) -> None:
        self._metered_j += window.meter.value
        idle_j = sum(entry.joules for entry in window.entries if entry.account == "idle_provisioned")
        busy_j = window.busy_j
        for entry in window.entries:
            self._entry(entry, window.meter.meter, window.begin_s, window.end_s)
            if entry.request and busy_j > 0.0:
                self._open[entry.request].idle_j += idle_j * (entry.joules / busy_j)

    def _entry(self, entry: Entry, meter: str, begin_s: float, end_s: float) -> None:
        self._booked_j[entry.account] = self._booked_j.get(entry.account, 0.0) + entry.joules
        if not entry.request:
            return
        lines = self._open.get(entry.request)
        if lines is None:
            lines = self._open[entry.request] = _Lines()
        if end_s > lines.until_s:
            lines.windows += 1
            lines.until_s = end_s
        lines.tokens += entry.tokens
        line = lines.by_account.get((entry.account, meter))
        if line is None:
            line = lines.by_account[entry.account, meter] = _Line()
        line.add(entry, begin_s, end_s)


def _statement(request: str, lines: _Lines, status: Literal["provisional", "settled"], ending: Ending) -> Statement:
    by_account: dict[str, list[Figure]] = {}
    for (account, meter), line in lines.by_account.items():
        to = _BUSY_MOVES[ending] if account == "busy" else account
        by_account.setdefault(to, []).append(line.figure(meter, BOUNDARIES.get(account, "accelerators")))
    idle = Figure(lines.idle_j, "J", "assumed", "", "idle accelerators, by busy joules in the same windows")
    accounts = {account: total(figures) for account, figures in by_account.items()}
    return Statement(request, status, accounts, idle, lines.windows, ending if status == "settled" else "")


BOUNDARIES: Mapping[str, str] = {"host": "host of the accelerators", "overhead": "power and cooling of the site"}
