"""The platform as the console, the command line and Prometheus see it: records, gathered from any thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from underlay.control.events import ReplicaDraining
from underlay.domain.answer import ModelCard
from underlay.domain.errors import NotFound
from underlay.domain.keys import Key
from underlay.domain.views import Journey, LedgerRow, PlatformRow, ReplicaRow
from underlay.live import keyring
from underlay.live.driver import Driver
from underlay.live.fleet.process import ProcessFleet
from underlay.live.ledger_rows import ledger_rows
from underlay.live.metrics import Metrics
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter

if TYPE_CHECKING:
    from underlay.live.energy.accounting import EnergyAccounts

_REMEMBERED = 500
_LAG_MAX_S = 30.0


class LiveViews:
    """Implements ``console.views.Views`` over the running platform."""

    def __init__(
        self,
        *,
        version: str,
        pid: int,
        data_dir: Path,
        driver: Driver,
        fleet: ProcessFleet,
        store: Store,
        writer: StoreWriter,
        metrics: Metrics,
        cards: list[ModelCard],
        session_key: Callable[[], str],
    ) -> None:
        self._version = version
        self._pid = pid
        self._data_dir = data_dir
        self._driver = driver
        self._fleet = fleet
        self._store = store
        self._writer = writer
        self._metrics = metrics
        self._cards = cards
        self._session_key = session_key
        self._began_at = time.monotonic()
        self._recent: OrderedDict[str, Journey] = OrderedDict()
        self._served: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.energy: EnergyAccounts | None = None
        self.urls = ("", "")
        self.draining = False

    def remember(self, journey: Journey, replica: str) -> None:
        """Keep a journey at hand until the store has it, and count it to the replica that ended it."""
        with self._lock:
            self._served[replica] += 1
            self._recent[journey.id] = journey
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)

    def settle(self, journey: Journey) -> None:
        """Put a journey with its joules in the place of the one without."""
        with self._lock:
            if journey.id in self._recent:
                self._recent[journey.id] = journey

    def platform(self) -> PlatformRow:
        """Describe the platform in one line."""
        desk = self._driver.desk
        return PlatformRow(
            version=self._version,
            pid=self._pid,
            public_url=self.urls[0],
            console_url=self.urls[1],
            uptime_s=round(time.monotonic() - self._began_at, 1),
            open_requests=len(self._driver.exchanges),
            waiting=desk.waiting(),
            ready=self.ready()[0],
            models=tuple(card.id for card in self._cards),
        )

    def replicas(self) -> list[ReplicaRow]:
        """List every replica, with the load that the desk has leased on it."""
        rows = self._fleet.rows({name: replica.load for name, replica in list(self._driver.desk.replicas.items())})
        return [structs.replace(row, served=self._served[row.name]) for row in rows]

    def drain(self, replica: str, *, drain: bool) -> ReplicaRow:
        """Take a replica out of service, or put it back; returns what became of it so far."""
        order = asyncio.run_coroutine_threadsafe(self._drain(replica, drain=drain), self._driver.loop)
        if not order.result(timeout=5):
            raise NotFound(f"there is no replica {replica[:100]!r}; 'underlay ps' lists them", param="replica")
        return next(row for row in self.replicas() if row.name == replica)

    async def _drain(self, replica: str, *, drain: bool) -> bool:
        """Order it on the platform's own loop; tells whether there is such a replica.

        The desk is told where the replica may have work. One that is not ready has none: it just does not come
        back, and one that is out of service comes back by being started.
        """
        try:
            before = self._fleet.status(replica).state
        except KeyError:
            return False
        after = (self._fleet.drain if drain else self._fleet.restore)(replica).state
        if (before, after) in (("ready", "draining"), ("draining", "ready")):
            self._driver.submit(ReplicaDraining(at=self._driver.now(), replica=replica, drain=drain))
        return True

    def journey(self, request_id: str) -> Journey | None:
        """Find the journey of a request that is over."""
        with self._lock:
            found = self._recent.get(request_id)
        found = found or self._store.journey(request_id)
        if found is None or found.energy is not None or self.energy is None:
            return found
        return structs.replace(found, energy=self.energy.provisional(request_id))

    def journeys(self, limit: int, before: float | None) -> list[Journey]:
        """List the latest journeys."""
        with self._lock:
            recent = [j for j in reversed(self._recent.values()) if before is None or j.at_s < before]
        if len(recent) >= limit:
            return recent[:limit]
        known = {journey.id for journey in recent}
        stored = self._store.journeys(limit + len(known), before)
        return (recent + [journey for journey in stored if journey.id not in known])[:limit]

    def ledger(self, group: str) -> list[LedgerRow]:
        """List charges, or sums of them, with their energy and what of that is nobody's.

        By a connection of its own: sums of a year take seconds, and the platform's loop asks the other for keys.
        """
        with Store(self._data_dir) as store:
            return ledger_rows(store, group)

    def ready(self) -> tuple[bool, list[str]]:
        """Tell whether a prompt would be let in now, and what stands in its way."""
        reasons = []
        states = [replica.state for replica in list(self._driver.desk.replicas.values())]
        if "ready" not in states:
            reasons.append("no replica is ready")
        if self.draining:
            reasons.append("draining")
        health = self._writer.health()
        if health.lag_s > _LAG_MAX_S:
            reasons.append(f"the store lags by {health.lag_s:.0f} s: {health.last_error or 'slow disk'}")
        if self._driver.journal.last_error:
            reasons.append(f"the journal cannot be written: {self._driver.journal.last_error}")
        return not reasons, reasons

    def metrics(self) -> tuple[bytes, str]:
        """Render the metrics."""
        self._metrics.journal_bytes.set(self._driver.journal.bytes_written)
        self._metrics.store_lag.set(self._writer.lag)
        desks = list(self._driver.desk.desks.values())
        self._metrics.predicted(
            {d.name: (d.index.expected_tokens_total, d.index.cached_tokens_total) for d in desks}
        )
        return self._metrics.render(self.platform(), self.replicas())

    def models(self) -> list[ModelCard]:
        """List the models."""
        return self._cards

    def public_url(self) -> str:
        """Tell where the generation APIs listen."""
        return self.urls[0]

    def authorised(self, secret: str) -> str | None:
        """Find the id of the local key, if this is its secret and it still lives."""
        if not keyring.is_local(self._data_dir, secret):
            return None
        key: Key | None = self._driver.desk.keys.get(keyring.digest(secret))
        live = key is not None and keyring.state(key, time.time()) == "live"
        return key.id if key is not None and live else None

    def session_key(self) -> str:
        """Give the secret that the chat page asks with."""
        return self._session_key()
