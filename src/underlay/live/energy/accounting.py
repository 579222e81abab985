"""Which request took which of the joules that this host's meters counted, while it runs and for good?

A task looks at all open requests once a window (``work``), off the path of any of them, and closes windows by the
meters (``metered``) as soon as these have told. A request is settled when the window of its end is closed; then its
journey is told again, with its joules. A window waits for attempts that run and were not heard yet, as nobody knows
what they compute, but not for ever.

Kept here are open requests, those that wait for their last window, and sums. The time that both can take is bounded
(``HELD_S``, ``PATIENCE_S``), and so is what is kept.

Refused here: meters (``live.meters``), and how joules are shared (``ledger``).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from math import ceil, inf

import structlog
from msgspec import structs

from underlay.domain.energy import RequestEnergy
from underlay.domain.figures import Figure, Method, total
from underlay.domain.views import Journey
from underlay.ledger.attribution import WindowAccounts
from underlay.ledger.statements import Ending, Statement, Statements
from underlay.ledger.steps import Step
from underlay.live.driver import Performer
from underlay.live.energy.metered import Closed, MeteredHost
from underlay.live.energy.work import Work, attempt_id, ticket_of
from underlay.live.meters.ladder import Ladder, disjoint

log = structlog.get_logger("underlay.energy")

#: How long a window waits for attempts that were not heard yet, and then for meters that do not tell.
HELD_S = 30.0
PATIENCE_S = 5.0
#: A window is the least multiple of the meters' pause that is as long as this.
WINDOW_S = 1.0
#: After a window, the part of its length in which meters are given the time to be read once more.
_TELL_SHARE = 0.3

_ENDINGS: Mapping[str, Ending] = {"finished": "answered", "client_gone": "abandoned"}


class _Over:
    """A request that is over and waits for its last window."""

    __slots__ = ("at_s", "attempts", "journey")

    def __init__(self, at_s: float, attempts: tuple[tuple[str, bool], ...]) -> None:
        self.at_s = at_s
        self.attempts = attempts  # and whether each failed
        self.journey: Journey | None = None

    def ending(self, *, failed: bool) -> Ending:
        if failed or self.journey is None:
            return "failed"
        return _ENDINGS.get(self.journey.outcome, "failed")


class EnergyAccounts:
    """The joules of every request. Used on the platform's loop; ``provisional`` and what is shown, from any thread.

    ``exchanges`` tells the open ones; ``on_settled`` hears a journey with its joules.
    """

    def __init__(
        self,
        host: MeteredHost,
        work: Work,
        exchanges: Callable[[], Iterable[Performer]],
        on_settled: Callable[[Journey], None],
        clock: Callable[[], float],
        *,
        window_s: float,
        begin_s: float,
    ) -> None:
        self._host = host
        self._work = work
        self._exchanges = exchanges
        self._on_settled = on_settled
        self._clock = clock
        self.window_s = window_s
        self._begin_s = begin_s
        self._closed = self._looked = 0  # windows since then
        self._boundary = ""
        self._unheard_s = inf
        self._steps: deque[Step] = deque()
        self._over: dict[str, _Over] = {}
        self._unmetered: dict[str, float] = {}
        self._statements = Statements()
        self._told: dict[tuple[str, Method], float] = {}
        self._open_j = 0.0
        self._gap_s = 0.0
        self._in_gap = False
        self._lock = threading.Lock()

    # From the driver.

    def left(self, exchange: Performer) -> None:
        """An exchange is over: take its last counts."""
        if exchange.computed and self._work.counts(exchange):
            try:
                self._left(exchange, self._clock())
            except Exception:  # the reply of this request is about to be ended: joules may not stand in its way
                log.exception("energy of a request cannot be accounted for", request_id=exchange.ticket)

    def _left(self, exchange: Performer, now_s: float) -> None:
        exchange.computed[-1].end(now_s, exchange.produced().completion_tokens, failed=False)
        self._work.note(exchange, now_s)
        attempts = tuple((attempt_id(exchange.ticket, one), one.failed) for one in exchange.computed)
        with self._lock:
            self._over[exchange.ticket] = _Over(now_s, attempts)

    def over(self, journey: Journey) -> None:
        """How it ended; told after it left."""
        waiting = self._over.get(journey.id)
        if waiting is not None:
            waiting.journey = journey

    # The task.

    async def run(self) -> None:
        """Look once a window, and close what can be closed; until cancelled."""
        while True:
            await asyncio.sleep(max(0.01, self._edge(self._looked + 1) - self._clock()))
            try:
                self.look()
                await asyncio.sleep(_TELL_SHARE * self.window_s)
                await self.close_due()
            except Exception:  # joules are not worth an answer, and the next window may do
                log.exception("energy cannot be accounted for now")

    def look(self) -> None:
        """Take what was computed since the last look; it is booked up to the last edge of a window."""
        now_s = self._clock()
        self._looked = max(self._looked, int((now_s - self._begin_s) / self.window_s))
        exchanges = [exchange for exchange in self._exchanges() if self._work.counts(exchange)]
        self._steps += self._work.look(exchanges, now_s, self._edge(self._looked))
        unheard = (exchange.unheard_since() for exchange in exchanges)
        self._unheard_s = min((since for since in unheard if since is not None), default=inf)

    async def close_due(self) -> None:
        """Close every window of which all is known."""
        while self._closed < self._looked:
            begin_s, end_s = self._edge(self._closed), self._edge(self._closed + 1)
            waited_s = self._clock() - end_s
            if end_s > self._unheard_s and waited_s < HELD_S:
                return
            steps = tuple(self._steps)
            # Idle power is learnt only where the window before was idle too: counters lag.
            busy = any(step.end_s > begin_s - self.window_s and step.begin_s < end_s for step in steps)
            quiet = not busy and end_s <= self._unheard_s
            patient = waited_s < (HELD_S if end_s > self._unheard_s else 0.0) + PATIENCE_S
            closed = await asyncio.to_thread(self._host.close, begin_s, end_s, steps, quiet=quiet, patient=patient)
            if closed is None:
                return
            self._book(closed, steps)

    def _book(self, closed: Closed, steps: Iterable[Step]) -> None:
        self._closed += 1
        with self._lock:
            if closed.accounts is not None:
                self._add(closed.accounts)
            elif closed.why == "gap":
                self._lose(closed, steps)
            settled = [ticket for ticket, waiting in self._over.items() if waiting.at_s < closed.end_s]
            journeys = [self._settle(ticket) for ticket in settled]
        self._tell_gap(closed)
        while self._steps and self._steps[0].end_s <= closed.begin_s - self.window_s:
            self._steps.popleft()
        for journey in journeys:
            if journey is not None:
                self._on_settled(journey)

    def _add(self, accounts: WindowAccounts) -> None:
        self._statements.book(accounts)
        self._boundary = accounts.meter.boundary
        for entry in accounts.entries:
            if entry.request:
                self._open_j += entry.joules
            else:
                self._count(entry.account, entry.method, entry.joules)

    def _lose(self, closed: Closed, steps: Iterable[Step]) -> None:
        """A window without a meter: its steps are in no account, and those whose they are hear for how long."""
        self._gap_s += closed.end_s - closed.begin_s
        longest: dict[str, float] = {}
        for step in steps:
            within_s = step.share_within(closed.begin_s, closed.end_s) * (step.end_s - step.begin_s)
            for work in step.works:
                ticket = ticket_of(work.request)
                longest[ticket] = max(longest.get(ticket, 0.0), within_s)
        for ticket, within_s in longest.items():
            if within_s > 0.0:
                self._unmetered[ticket] = self._unmetered.get(ticket, 0.0) + within_s

    def _tell_gap(self, closed: Closed) -> None:
        """Say it once when the meters fall silent, and when they are back."""
        gap = closed.why == "gap"
        if gap and not self._in_gap:
            log.warning("the host is not metered now", effect="joules of this time are in no account")
        if self._in_gap and not gap:
            log.info("the host is metered again", unmetered_s=round(self._gap_s, 1))
        self._in_gap = gap

    def _settle(self, ticket: str) -> Journey | None:
        waiting = self._over.pop(ticket)
        statements = [
            self._statements.settle(attempt, waiting.ending(failed=failed)) for attempt, failed in waiting.attempts
        ]
        for statement in statements:
            for account, figure in statement.accounts.items():
                self._open_j -= figure.value
                self._count(account, figure.method, figure.value)
        energy = _energy("settled", statements, self._unmetered.pop(ticket, 0.0), self._boundary)
        return None if waiting.journey is None else structs.replace(waiting.journey, energy=energy)

    def _count(self, account: str, method: Method, joules: float) -> None:
        self._told[account, method] = self._told.get((account, method), 0.0) + joules

    def _edge(self, window: int) -> float:
        return self._begin_s + window * self.window_s

    # Shown.

    def provisional(self, ticket: str) -> RequestEnergy | None:
        """What is known of a request that is over and not settled; ``None`` for any other."""
        with self._lock:
            waiting = self._over.get(ticket)
            if waiting is None:
                return None
            statements = [self._statements.provisional(attempt) for attempt, _ in waiting.attempts]
            return _energy("provisional", statements, self._unmetered.get(ticket, 0.0), self._boundary)

    def totals(self) -> dict[tuple[str, Method], float]:
        """Joules by account and method, of all that is settled; with ``open_joules``, all that was metered."""
        with self._lock:
            return dict(self._told)

    @property
    def open_joules(self) -> float:
        """Joules of requests that are not settled yet."""
        return self._open_j

    @property
    def gap_s(self) -> float:
        """Seconds in which the host was not metered, since the meters began."""
        return self._gap_s

    @property
    def kept(self) -> int:
        """How many records are kept now, of steps and requests."""
        return len(self._steps) + len(self._over) + len(self._unmetered)

    def check(self) -> None:
        """All accounts together are all that was metered. Raises ``AssertionError``."""
        self._statements.check()


def window_s(ladder: Ladder, every_s: float) -> float:
    """How long windows are: a whole multiple of the slowest pause among the meters of the host's sum."""
    pause_s = max((max(every_s, meter.every_s) for meter in disjoint(ladder.meters)), default=every_s)
    return pause_s * ceil(WINDOW_S / pause_s)


def _energy(status: str, statements: Iterable[Statement], unmetered_s: float, boundary: str) -> RequestEnergy:
    by_account: dict[str, list[Figure]] = {}
    for statement in statements:
        for account, figure in statement.accounts.items():
            by_account.setdefault(account, []).append(figure)
    if not by_account:
        return RequestEnergy(status, unmetered_s=unmetered_s)
    all_of_it = total([figure for figures in by_account.values() for figure in figures])
    return RequestEnergy(
        status,
        all_of_it.value,
        all_of_it.uncertainty,
        all_of_it.method,
        all_of_it.meter,
        boundary,
        {account: sum(figure.value for figure in figures) for account, figures in by_account.items()},
        unmetered_s,
    )
