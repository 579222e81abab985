"""The live driver: brings events to the desk, writes the journal, performs effects. It decides nothing.

One event loop, one desk. An event's effects are performed after the journal has both; an event that is caused
while effects are being performed waits its turn, so that the desk sees one at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from underlay.control.desk import assemble
from underlay.control.effects import (
    Admitted,
    AnyEffect,
    Cancel,
    Charge,
    Close,
    Cut,
    Dispatch,
    Drained,
    Eject,
    Hold,
    Probe,
    Refuse,
    Replay,
    WakeAt,
)
from underlay.control.events import AnyEvent, Probed, Tick
from underlay.domain.answer import Usage
from underlay.domain.energy import RequestEnergy
from underlay.domain.policy import DeskSettings
from underlay.domain.views import Journey
from underlay.live.computed import Computed
from underlay.live.engines.adapter import Adapter
from underlay.live.engines.connections import Address, Pool
from underlay.live.engines.slots import Slots
from underlay.live.journal_file import JournalFile, book
from underlay.live.load_probe import LoadProbes
from underlay.live.settings import EngineSettings
from underlay.live.silence import LOOK_S, OnSilent, Silence, Voice
from underlay.live.store_writer import StoreWriter

log = structlog.get_logger("underlay.driver")


class Performer(Protocol):
    """Who performs the effects that concern one ticket. Each is performed once, in the desk's order.

    ``computed`` are its attempts that were heard, ``unheard`` those that ended before they were;
    ``guessed_tokens`` are the desk's for its prompt.
    """

    ticket: str
    model: str
    computed: list[Computed]
    unheard: list[Computed]
    guessed_tokens: int

    def admitted(self, effect: Admitted) -> None:
        """Note who asks."""

    def hold(self, effect: Hold) -> None:
        """Wait in line."""

    def dispatch(self, effect: Dispatch) -> None:
        """Give the request to a replica."""

    def refuse(self, effect: Refuse) -> None:
        """Answer with a refusal."""

    def replay(self, effect: Replay) -> None:
        """Answer as an earlier request was answered."""

    def cancel(self, effect: Cancel) -> None:
        """Stop that attempt, and no other."""

    def cut(self, effect: Cut) -> None:
        """End the caller's stream with an error, then submit ``ClientGone``."""

    def charge(self, effect: Charge) -> None:
        """Remember what it cost."""

    def close(self, effect: Close) -> None:
        """Send the end of the reply."""

    def sweep(self, now: float) -> None:
        """Look at the time."""

    def produced(self) -> Usage:
        """Tell what engines have produced so far."""

    def unheard_since(self) -> float | None:
        """Tell since when an engine works on it that has said nothing yet, if one does."""

    def carried_bytes(self) -> int:
        """Tell how many bytes of request and reply went between the caller and us."""

    def abandon(self) -> None:
        """Drop the caller's connection after a defect of ours; ``ClientGone`` follows from that."""


class Driver:
    """The desk in the world.

    ``on_journey`` hears of every request that is over; ``on_refused`` of a replica where nobody listens;
    ``on_silent`` of one that has streams open and says nothing; ``on_drained`` of one on which nothing runs any
    more and nothing will; ``on_left`` of an exchange that is over, before ``on_journey``; ``on_warms`` and
    ``on_warmed`` of a replica of a model that begins to fill a cache for nobody's request, and has read so many
    tokens. ``energy_of`` tells what is known of the joules of an open exchange: at once, from memory, without
    fail. ``salt`` makes of a tenant's name what keeps its prompts apart in engines' caches.
    """

    def __init__(
        self,
        settings: DeskSettings,
        journal: JournalFile,
        writer: StoreWriter,
        adapters: dict[str, tuple[Adapter, EngineSettings]],
        on_journey: Callable[[Journey, str], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.desk = assemble(settings)
        self.pool = Pool(self.loop)
        self.exchanges: dict[str, Performer] = {}
        self.journal = journal
        self._writer = writer
        self._adapters = adapters
        self._addresses: dict[str, Address] = {}
        self._on_journey = on_journey
        self.on_refused: Callable[[str], None] = lambda _: None
        self.on_drained: Callable[[str], None] = lambda _: None
        self.on_silent: OnSilent = lambda _name, _silent: None
        self.on_left: Callable[[Performer], None] = lambda _: None
        self.on_warms: Callable[[str, str], None] = lambda _model, _replica: None
        self.on_warmed: Callable[[str, str, int], None] = lambda _model, _replica, _tokens: None
        self.energy_of: Callable[[Performer], RequestEnergy | None] = lambda _: None
        self.slots = Slots()
        self.salt: Callable[[str], str] = lambda tenant: tenant
        self._silence = Silence(time.monotonic, self.load, self._silent)
        self._listening = self.loop.call_later(LOOK_S, self._listen)
        self._load_probes = LoadProbes(self.pool, self._probed)
        self._inbox: deque[AnyEvent] = deque()
        self._busy = False
        self._wake: asyncio.TimerHandle | None = None
        self.clock = time.monotonic  # uvloop's own clock counts whole milliseconds only
        self._anchor_s = time.time() - self.clock()
        self._performers: dict[type, Callable[[Any], None]] = {
            Admitted: lambda effect: self.exchanges[effect.ticket].admitted(effect),
            Dispatch: lambda effect: self.exchanges[effect.ticket].dispatch(effect),
            Hold: lambda effect: self.exchanges[effect.ticket].hold(effect),
            Refuse: lambda effect: self.exchanges[effect.ticket].refuse(effect),
            Replay: lambda effect: self.exchanges[effect.ticket].replay(effect),
            Cancel: lambda effect: self.exchanges[effect.ticket].cancel(effect),
            Cut: lambda effect: self.exchanges[effect.ticket].cut(effect),
            Charge: lambda effect: self.exchanges[effect.ticket].charge(effect),
            Close: lambda effect: self.exchanges[effect.ticket].close(effect),
            Eject: self._eject,
            Drained: self._drained,
            Probe: self._probe,
            WakeAt: self._wake_at,
        }

    def now(self) -> float:
        """The time for events: Unix seconds when the driver began, and from there on monotonic."""
        return self._anchor_s + self.clock()

    def submit(self, event: AnyEvent) -> None:
        """Bring an event to the desk and perform what it decides."""
        self._inbox.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox:
                self._take(self._inbox.popleft())
        finally:
            self._busy = False

    def _take(self, event: AnyEvent) -> None:
        try:
            self._handle(event)
        except Exception:
            # A defect of the desk in one event must not keep it from the next ones.
            log.exception("event failed", kind=type(event).__name__)
            self._abandon(getattr(event, "ticket", ""))

    def _handle(self, event: AnyEvent) -> None:
        effects = self.desk.handle(event)
        self.journal.append(event, effects)
        book(effects, event.at, self._writer)
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: AnyEffect) -> None:
        try:
            self._performers[type(effect)](effect)
        except Exception:
            # A defect in answering one request must not stop the others; its caller's connection is closed,
            # which reports ClientGone, so nothing it held is kept.
            log.exception("effect failed", effect=type(effect).__name__)
            self._abandon(getattr(effect, "ticket", ""))

    def _abandon(self, ticket: str) -> None:
        exchange = self.exchanges.get(ticket)
        if exchange is None:
            return
        try:
            exchange.abandon()
        except Exception:
            log.exception("abandoning failed", ticket=ticket)
            self.leave(exchange)

    def _eject(self, effect: Eject) -> None:
        log.warning("replica ejected", replica=effect.replica, why=effect.why)

    def _drained(self, effect: Drained) -> None:
        log.info("replica has nothing left to do", replica=effect.replica, why=effect.why)
        self.on_drained(effect.replica)

    def _probe(self, effect: Probe) -> None:
        address = self._addresses.get(effect.replica)
        if address is not None:
            self._load_probes.ask(effect.replica, address)

    def _probed(self, replica: str, running: int, waiting: int) -> None:
        self.submit(Probed(at=self.now(), replica=replica, running=running, waiting=waiting))

    def _silent(self, replica: str, still: Callable[[], bool]) -> None:
        self.on_silent(replica, still)

    def _listen(self) -> None:
        self._listening = self.loop.call_later(LOOK_S, self._listen)
        try:
            self._silence.look()
        except Exception:  # a defect in asking one replica must not end the listening to all
            log.exception("listening failed")

    def _wake_at(self, effect: WakeAt) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay_s = max(0.0, effect.at - self.now())
        self._wake = self.loop.call_later(delay_s, lambda: self.submit(Tick(at=self.now())))

    # For exchanges.

    def enter(self, exchange: Performer) -> None:
        """Begin to perform effects on this exchange."""
        self.exchanges[exchange.ticket] = exchange

    def leave(self, exchange: Performer) -> None:
        """The exchange is over."""
        if self.exchanges.pop(exchange.ticket, None) is not None:
            self.on_left(exchange)

    def adapter(self, model: str) -> Adapter:
        """How to speak to the engines of a model."""
        return self._adapters[model][0]

    def engine_settings(self, model: str) -> EngineSettings:
        """The settings of a model's engines."""
        return self._adapters[model][1]

    def knows(self, model: str) -> bool:
        """Whether a model is served here."""
        return model in self._adapters

    def address(self, replica: str) -> Address | None:
        """Where a replica listens now."""
        return self._addresses.get(replica)

    def voice(self, replica: str) -> Voice:
        """Where to note that a replica said something."""
        return self._silence.voice(replica)

    def load(self, replica: str) -> int:
        """How many strands are leased on a replica."""
        known = self.desk.replicas.get(replica)
        return known.load if known is not None else 0

    def guessed_tokens(self, ticket: str) -> int:
        """How many tokens the desk takes a prompt to have, while it is open."""
        known = self.desk.tickets.get(ticket)
        return known.prompt_tokens if known is not None else 0

    def queue_place(self, ticket: str) -> int | None:
        """The place in line of a request that waits, from 1."""
        return self.desk.queue_place(ticket)

    def place(self, replica: str, address: Address, slots: int = 0) -> None:
        """Note where a replica that has just started listens, and how many slots it has that we may choose from."""
        self._addresses[replica] = address
        if slots:
            self.slots.opened(replica, slots)

    def tell(self, journey: Journey, replica: str) -> None:
        """Pass on the journey of a request that is over."""
        self._on_journey(journey, replica)

    def limit_headers(self, key_id: str, dialect: str) -> tuple[tuple[str, str], ...]:
        """What is left of a key's limits, as the vendor's headers say it; nothing where there are none."""
        meter = self.desk.accounts.meter(key_id)
        if meter is None or dialect == "gemini" or not (meter.requests or meter.tokens):
            return ()
        prefix = "anthropic-ratelimit" if dialect == "anthropic" else "x-ratelimit"
        headers: list[tuple[str, str]] = []
        for name, rate in (("requests", meter.requests), ("tokens", meter.tokens)):
            if rate is not None:
                reset_s = max(0.0, rate.full_at - self.now())
                headers += _limit(prefix, name, rate.per_minute, rate.left(self.now()), reset_s, self.now())
        return tuple(headers)

    def close(self) -> None:
        """Stop waking up and destroy engine connections."""
        if self._wake is not None:
            self._wake.cancel()
        self._listening.cancel()
        self._load_probes.close()
        self.pool.close()


def _limit(prefix: str, name: str, limit: int, left: int, reset_s: float, now: float) -> list[tuple[str, str]]:
    if prefix == "anthropic-ratelimit":
        reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + reset_s + 1))
        order = f"{prefix}-{name}-{{}}"
    else:
        reset = f"{reset_s:.3f}s"
        order = f"{prefix}-{{}}-{name}"
    return [
        (order.format("limit"), str(limit)),
        (order.format("remaining"), str(left)),
        (order.format("reset"), reset),
    ]
