"""Which request took which of the joules that this host's meters counted, while it runs and for good?

A task looks at all open requests once a window (``work``), off the path of any of them, and closes windows by the
meters (``metered``) as soon as these have told. A request is settled when the window of its end is closed; then its
journey is told again, with its joules and what they make (``told``), and its hops have theirs. A window waits for
attempts that run and were not heard yet, as nobody knows what they compute, but not for ever. When the platform
stops, the window it is in is closed as it stands, and everything that is over is settled.

Kept here are open requests, those that wait for their last window, and sums. The time that both can take is bounded
(``HELD_S``, ``PATIENCE_S``), and so is what is kept. However many a window settles, tokens go on in between.

Refused here: meters (``live.meters``), and how joules are shared (``ledger``).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import NamedTuple

import structlog

from underlay.domain.energy import Booked, RequestEnergy
from underlay.domain.figures import Method
from underlay.domain.views import Journey
from underlay.ledger.statements import Statements
from underlay.ledger.steps import Step
from underlay.live.driver import Performer
from underlay.live.energy import told
from underlay.live.energy.bills import Bills
from underlay.live.energy.leaving import Left, settled_journey
from underlay.live.energy.metered import Closed, MeteredHost
from underlay.live.energy.outlook import Outlook
from underlay.live.energy.site import Site, hour_of
from underlay.live.energy.totals import Totals
from underlay.live.energy.work import Work, ticket_of

log = structlog.get_logger("underlay.energy")

#: How long a window waits for attempts that were not heard yet, and then for meters that do not tell.
HELD_S = 30.0
PATIENCE_S = 5.0
#: After a window, the part of its length in which meters are given the time to be read once more.
_TELL_SHARE = 0.3
#: Requests that are settled in one go: some milliseconds, in which no token goes out.
_AT_ONCE = 16
#: How long the last window waits for its meters when the platform stops, and the pause between two askings.
_FINISH_S = 2.0
_ASK_AGAIN_S = 0.02


class Hearers(NamedTuple):
    """Who hears of a journey with its joules, and of what was booked, with the journeys settled by it."""

    settled: Callable[[Journey], None]
    booked: Callable[[Booked, list[Journey]], object] = lambda _booked, _journeys: None


class EnergyAccounts:
    """The joules of every request. Changed on the platform's loop alone; a lock keeps a change half made from those
    who ask from another thread, for what is ``provisional`` or shown.

    ``exchanges`` tells the open ones; ``clock`` is theirs, and ``unix_s`` is added to it for the time of day.
    """  # noqa: D205

    def __init__(
        self,
        host: MeteredHost,
        work: Work,
        site: Site,
        exchanges: Callable[[], Iterable[Performer]],
        hearers: Hearers,
        clock: Callable[[], float],
        *,
        window_s: float,
        begin_s: float,
        unix_s: float = 0.0,
    ) -> None:
        self._host = host
        self._work = work
        self._site = site
        self._exchanges = exchanges
        self._hearers = hearers
        self._clock = clock
        self._unix_s = unix_s
        self.window_s = window_s
        self._begin_s = begin_s
        self._closed = self._looked = 0  # windows since then
        self._boundary = ""
        self._unheard_s = inf
        self._steps: deque[Step] = deque()
        self._over: dict[str, Left] = {}
        self._unmetered: dict[str, float] = {}
        self._statements = Statements()
        self._bills = Bills(site)
        self._totals = Totals(site, begin_s + unix_s)
        self._outlook = Outlook(host, work, site, self._statements)
        self._gap_s = 0.0
        self._in_gap = self._finished = False
        self._lock = threading.Lock()
        self._closing = asyncio.Lock()

    # From the driver.

    def left(self, exchange: Performer) -> None:
        """An exchange is over: take its last counts."""
        if (exchange.computed or exchange.unheard) and self._work.counts(exchange):
            try:
                self._left(exchange, self._clock())
            except Exception:  # the reply of this request is about to be ended: joules may not stand in its way
                log.exception("energy of a request cannot be accounted for", request_id=exchange.ticket)

    def _left(self, exchange: Performer, now_s: float) -> None:
        if exchange.computed:
            exchange.computed[-1].end(now_s, exchange.produced().completion_tokens, failed=False)
        self._work.note(exchange, now_s)
        with self._lock:
            self._over[exchange.ticket] = Left(exchange, now_s)

    def over(self, journey: Journey) -> None:
        """How it ended; told after it left."""
        waiting = self._over.get(journey.id)
        if waiting is not None:
            waiting.journey = journey

    def warms(self, model: str, replica: str) -> None:
        """A replica begins to fill a cache for nobody's request."""
        self._work.warms(model, replica, self._clock())

    def warmed(self, model: str, replica: str, tokens: int) -> None:
        """It has read so many tokens for that; 0 if it came to nothing."""
        self._work.warmed(model, replica, tokens, self._clock())

    def so_far(self, exchange: Performer) -> RequestEnergy | None:
        """What is known of a request that is open, for the end of its reply: what is booked, and by the step model
        what is not yet, joules alone. Takes some ten microseconds and never fails; ``joules`` is ``None`` while
        nothing is known, and the whole of it where its model is not metered.
        """  # noqa: D205
        if not self._work.counts(exchange):
            return None
        try:
            return self._outlook.joules(exchange, self._boundary)
        except Exception:  # as above
            log.exception("energy of a request cannot be told yet", request_id=exchange.ticket)
            return RequestEnergy("provisional")

    # The task.

    async def run(self) -> None:
        """Look once a window, and close what can be closed; until cancelled, or finished."""
        while not self._finished:
            await asyncio.sleep(max(0.01, self._edge(self._looked + 1) - self._clock()))
            try:
                self.look()
                await asyncio.sleep(_TELL_SHARE * self.window_s)
                await self.close_due()
            except Exception:  # joules are not worth an answer, and the next window may do
                log.exception("energy cannot be accounted for now")

    def look(self) -> None:
        """Take what was computed since the last look; it is booked up to the last edge of a window."""
        if self._finished:
            return
        now_s = self._clock()
        self._looked = max(self._looked, int((now_s - self._begin_s) / self.window_s))
        self._take(now_s, self._edge(self._looked))

    def _take(self, now_s: float, edge_s: float) -> None:
        exchanges = [exchange for exchange in self._exchanges() if self._work.counts(exchange)]
        self._steps += self._work.look(exchanges, now_s, edge_s)
        for waiting in self._over.values():
            if waiting.at_s < edge_s < waiting.last_s:  # what was computed together ends together, at the edge
                waiting.last_s = edge_s
        unheard = (*(exchange.unheard_since() for exchange in exchanges), self._work.warming_since)
        self._unheard_s = min((since for since in unheard if since is not None), default=inf)

    async def close_due(self) -> None:
        """Close every window of which all is known."""
        async with self._closing:
            while self._closed < self._looked and not self._finished:
                end_s = self._edge(self._closed + 1)
                waited_s = self._clock() - end_s
                if end_s > self._unheard_s and waited_s < HELD_S:
                    return
                patient = waited_s < (HELD_S if end_s > self._unheard_s else 0.0) + PATIENCE_S
                closed = await self._close(self._edge(self._closed), end_s, patient=patient)
                if closed is None:
                    return
                self._closed += 1
                await self._book(closed)

    async def finish(self) -> None:
        """Close the window that we are in as it stands, settle every request that is over, and tell all of it.

        For when the platform stops: its engines must still run, as their processor time is read once more.
        """
        async with self._closing:
            if self._finished:
                return
            self._finished = True
            end_s = self._clock()
            self._take(end_s, end_s)
            begin_s = self._edge(self._closed)
            while begin_s < end_s:
                until_s = min(begin_s + self.window_s, end_s)
                await self._close_last(begin_s, until_s)
                begin_s = until_s
            await self._settle_all(list(self._over), end_s, last=True)

    async def _close_last(self, begin_s: float, end_s: float) -> None:
        while True:
            closed = await self._close(begin_s, end_s, patient=self._clock() < end_s + _FINISH_S)
            if closed is not None:
                return await self._book(closed)
            await asyncio.sleep(_ASK_AGAIN_S)  # a meter's thread tells nobody that it has read

    async def _close(self, begin_s: float, end_s: float, *, patient: bool) -> Closed | None:
        """Close a window; ``None`` while its meters have not told."""
        steps = tuple(self._steps)
        # Idle power is learnt only where the window before was idle too: counters lag.
        busy = any(step.end_s > begin_s - self.window_s and step.begin_s < end_s for step in steps)
        quiet = not busy and end_s <= self._unheard_s
        try:
            return await asyncio.to_thread(self._host.close, begin_s, end_s, steps, quiet=quiet, patient=patient)
        except Exception:  # a defect of ours: without this window, or no later one would ever be closed
            log.exception("a window cannot be closed", effect="its joules are in no account")
            return Closed(begin_s, end_s, None, "gap")

    async def _book(self, closed: Closed) -> None:
        with self._lock:
            if closed.accounts is not None:
                self._add(closed)
            elif closed.why == "gap":
                self._lose(closed)
        self._tell_gap(closed)
        while self._steps and self._steps[0].end_s <= closed.begin_s - self.window_s:
            self._steps.popleft()
        over = [ticket for ticket, waiting in self._over.items() if waiting.last_s <= closed.end_s]
        await self._settle_all(over, closed.end_s)

    async def _settle_all(self, tickets: Sequence[str], end_s: float, *, last: bool = False) -> None:
        for begin in range(0, max(1, len(tickets)), _AT_ONCE):
            if begin:
                await asyncio.sleep(0)
            with self._lock:
                journeys = [self._settle(ticket) for ticket in tickets[begin : begin + _AT_ONCE]]
            self._tell([journey for journey in journeys if journey is not None], end_s, last=last)

    def _add(self, closed: Closed) -> None:
        accounts = closed.accounts
        assert accounts is not None
        self._statements.book(accounts)
        (device,) = accounts.devices
        self._boundary = accounts.it.boundary if accounts.host_meter else device.meter.boundary
        self._totals.window(accounts, self._bills.add(accounts, hour_of(closed.begin_s + self._unix_s)))

    def _lose(self, closed: Closed) -> None:
        """A window without a meter: its steps are in no account, and those whose they are hear for how long."""
        self._gap_s += closed.end_s - closed.begin_s
        longest: dict[str, float] = {}
        for step in self._steps:
            within_s = step.share_within(closed.begin_s, closed.end_s) * (step.end_s - step.begin_s)
            for work in step.works:
                ticket = ticket_of(work.request)
                longest[ticket] = max(longest.get(ticket, 0.0), within_s)
        for ticket, within_s in longest.items():
            if ticket and within_s > 0.0:
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
        statements = tuple(self._statements.settle(name, ending) for name, ending in waiting.phases())
        bill, unmetered_s = self._bills.take(ticket), self._unmetered.pop(ticket, 0.0)
        of = told.Reckoned(statements, bill, waiting.carried_bytes, unmetered_s, self._boundary)
        money_usd = "0" if waiting.journey is None else waiting.journey.money_usd
        energy = told.settled(of, self._site, money_usd)
        self._totals.settled(waiting.model, statements, energy)
        return None if waiting.journey is None else settled_journey(waiting.journey, energy, statements)

    def _tell(self, journeys: list[Journey], end_s: float, *, last: bool = False) -> None:
        if self._totals.due(end_s + self._unix_s) or journeys or last:
            self._hearers.booked(self._totals.booked(), journeys)
        for journey in journeys:
            self._hearers.settled(journey)

    def _edge(self, window: int) -> float:
        return self._begin_s + window * self.window_s

    # Shown.

    def provisional(self, ticket: str) -> RequestEnergy | None:
        """What is known of a request that is over and not settled; ``None`` for any other."""
        with self._lock:
            waiting = self._over.get(ticket)
            if waiting is None:
                return None
            hour = hour_of(self._clock() + self._unix_s)
            return self._outlook.of(waiting, hour, self._boundary, self._unmetered.get(ticket, 0.0))

    def totals(self) -> dict[tuple[str, Method], float]:
        """Joules by account and method, of all that is settled; with ``open_joules``, all that was metered."""
        with self._lock:
            return dict(self._totals.by_account)

    @property
    def sums(self) -> Totals:
        """All sums, to be read and not kept: grams, millilitres and money by model, and the step model's error."""
        return self._totals

    @property
    def open_joules(self) -> float:
        """Joules of requests that are not settled yet."""
        return self._totals.open_j

    @property
    def gap_s(self) -> float:
        """Seconds in which the host was not metered, since the meters began."""
        return self._gap_s

    @property
    def kept(self) -> int:
        """How many records are kept now, of steps and requests."""
        return len(self._steps) + len(self._over) + len(self._unmetered) + self._bills.kept

    def check(self) -> None:
        """All accounts together are all that was metered. Raises ``AssertionError``."""
        self._statements.check()
