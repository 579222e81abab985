"""The public listener: finds out what a request is, and starts the exchange that answers it.

Deny by default: only what ``_ANSWERS`` and the generation routes name is served here; everything else is a 404
in the caller's own dialect.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable

import structlog

from underlay.control import identity
from underlay.control.effects import Cut
from underlay.dialects import DIALECTS, choose, credentials, energy, without_credentials
from underlay.dialects.delivery import heeded, idempotency_key
from underlay.dialects.wire import Dialect, Route
from underlay.domain.answer import ModelCard, Opening, Usage
from underlay.domain.errors import (
    Internal,
    MethodNotAllowed,
    NotFound,
    UnderlayError,
    UnknownModel,
)
from underlay.domain.keys import Key
from underlay.domain.prompt import Ask, Prompt
from underlay.domain.views import Journey
from underlay.live import keyring
from underlay.live.driver import Driver, Performer
from underlay.live.gateway.blocks import Digests
from underlay.live.gateway.exchange import JSON, NOT_AGAIN, Exchange
from underlay.live.gateway.framing import Headers
from underlay.live.gateway.generation import Generation
from underlay.live.gateway.http import Connection, Occupant, Request, connection_factory
from underlay.live.gateway.inquiry import Inquiry
from underlay.live.gateway.records import FindJourney, Records, unknown
from underlay.live.gateway.replies import Replies
from underlay.live.gateway.shelf import Shelf
from underlay.live.gateway.trail import Trail
from underlay.live.settings import PublicSettings

log = structlog.get_logger("underlay.gateway")

_SWEEP_S = 0.25
_MODEL_NAME_MAX = 256  # characters; a stranger's longer one would only fill journals
_SCREENED_BYTES = 65_536  # larger bodies are only taken in for someone with a key
_EXPOSED = (
    "x-request-id, request-id, server-timing, traceparent, x-cost-usd, retry-after, x-underlay-reason, "
    "x-underlay-band, x-underlay-queue-place, x-underlay-queue-wait-ms, x-underlay-energy-joules, "
    "idempotent-replayed"
)


class Gateway:
    """The public side. A ``Listener`` for its connections.

    ``find_journey`` finds a request that is over, called from a thread; there is none where nothing is kept.
    """

    def __init__(
        self,
        settings: PublicSettings,
        driver: Driver,
        cards: list[ModelCard],
        shelf: Shelf,
        ready: Callable[[], tuple[bool, list[str]]],
        origins: Callable[[], frozenset[str]],
        digests: Digests,
        find_journey: FindJourney = lambda _: None,
    ) -> None:
        self.settings = settings
        self.driver = driver
        self.connections: set[Connection] = set()
        self.draining = False
        self._cards = {card.id: card for card in cards}
        self._shelf = shelf
        self._ready = ready
        self._origins = origins
        self._digests = digests
        self._replies = Replies(driver.clock)
        self._records = Records(driver.loop, find_journey)
        self._per_address: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    # Listening.

    async def listen(self) -> tuple[str, int]:
        """Begin to listen; returns host and port. Raises ``OSError`` if the address is taken."""
        loop = self.driver.loop
        factory = connection_factory(self)
        self._server = await loop.create_server(factory, self.settings.host, self.settings.port, backlog=1024)
        self._sweep()
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    def stop_accepting(self) -> None:
        """Begin to drain: no new connections, idle ones are closed, open streams go on."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            if not connection.busy and not connection.mid_request:
                connection.close()

    def cut_off(self) -> None:
        """End what is still open: the drain's time is over."""
        for exchange in list(self.driver.exchanges.values()):
            exchange.cut(Cut(exchange.ticket, "overloaded", "the platform is shutting down; ask again"))
        for connection in list(self.connections):
            connection.close()

    def close(self) -> None:
        """Stop."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._records.close()
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        self._sweeper = self.driver.loop.call_later(_SWEEP_S, self._sweep)
        now = self.driver.clock()
        self._per_address = Counter(connection.client for connection in self.connections)
        all_that_wait: list[Connection | Performer] = [*self.connections, *self.driver.exchanges.values()]
        for swept in all_that_wait:
            try:
                swept.sweep(now)
            except Exception:  # a defect in one must not keep the time of the others
                log.exception("sweep failed")
                swept.abandon()
        self.driver.pool.sweep()

    def accepts(self, connection: Connection) -> bool:
        """Whether there is room for one more connection, in all and from its address."""
        self._per_address[connection.client] += 1
        return (
            len(self.connections) < self.settings.connections_max
            and self._per_address[connection.client] <= self.settings.connections_per_address_max
        )

    # Requests.

    def screen(self, request: Request) -> None:
        """Refuse a large body before it is read, unless someone with a key sends it."""
        length = request.headers.get("content-length", "")
        small = length.isdigit() and int(length[:20]) <= _SCREENED_BYTES
        if small or (not length and "transfer-encoding" not in request.headers):
            return
        self._identify(request)

    def received(self, request: Request) -> Occupant | None:
        """Answer a whole request, or begin to."""
        return self._answered(request, lambda: self._answer(request))

    def _answered(self, request: Request, answer: Callable[[], Occupant | None]) -> Occupant | None:
        """Answer, if it comes to that with an error."""
        try:
            return answer()
        except UnderlayError as error:
            self._say(request, error)
        except Exception:
            log.exception("request failed", method=request.method)
            self._say(request, Internal("a defect of ours; it was logged under this request's id"))
        return None

    def refuse(self, connection: Connection, error: UnderlayError, path: str, headers: dict[str, str]) -> None:
        """Answer a request that never became whole."""
        request = Request(connection, self.driver.clock())
        request.method, request.path, request.headers, request.keep_alive = "POST", path or "/", headers, False
        connection.busy = True
        self._say(request, error)

    def _answer(self, request: Request) -> Occupant | None:
        if request.method == "OPTIONS":
            self._preflight(request)
            return None
        if request.path in ("/livez", "/readyz") and request.method in ("GET", "HEAD"):
            self._health(request)
            return None
        route = choose(request.method, request.path, request.query, request.headers)
        if route.name == "unknown":
            raise NotFound("there is nothing at this path; is the base URL right?")
        if route.name == "wrong_method":
            raise MethodNotAllowed(f"this path answers {route.allow} only")
        dialect = DIALECTS[route.dialect]
        if route.name in ("models", "model"):
            self._list_models(request, route, dialect)
        elif route.name in ("response", "response_cancel"):
            self._stored(request, route)
        elif route.name == "request_energy":
            return self._look_up_energy(request, route)
        else:
            return self._begin(request, route, dialect)
        return None

    def _begin(self, request: Request, route: Route, dialect: Dialect) -> Exchange:
        """Start the exchange of a request for an engine."""
        key = self._identify(request)  # before the body is looked at: strangers get no parsing
        ask = heeded(dialect.parse(route, request.body, request.headers), request.headers)
        idempotency = self._idempotency(request, ask)
        request.body = b""  # parsed; a stream should not hold it
        if len(ask.prompt.model) > _MODEL_NAME_MAX:
            raise UnknownModel("no model has a name that long", param="model")
        if ask.previous is not None:
            ask = self._shelf.continued(ask, key.tenant)
        trail = Trail(request.began_at, request.headers.get("traceparent", ""))
        opening = Opening(_request_id(), int(self.driver.now()), ask.prompt.model)
        exchange = self._exchange(request, route, dialect, ask, opening, trail)
        exchange.base_headers = self._base_headers(request, opening.request_id, route, trail.traceparent)
        if idempotency is not NOT_AGAIN:
            exchange.replies = self._replies
        exchange.begin(key, self._digests, resumable=self._resumable(ask.prompt), idempotency=idempotency)
        return exchange

    def _idempotency(self, request: Request, ask: Ask) -> tuple[str, str]:
        """Digests of the caller's idempotency key and of all that it stands for. Counting can be done again."""
        key = idempotency_key(request.headers)
        if not key or ask.prompt.operation == "count":
            return NOT_AGAIN
        target = (request.method, request.path, without_credentials(request.query))
        asked = self._digests.request(*(part.encode("latin-1") for part in target), request.body)
        return self._digests.request(key.encode("latin-1")), asked

    def _exchange(
        self, request: Request, route: Route, dialect: Dialect, ask: Ask, opening: Opening, trail: Trail
    ) -> Exchange:
        if ask.prompt.operation not in ("chat", "completion"):
            return Inquiry(self.driver, request, route, dialect, ask, opening, trail)
        generation = Generation(self.driver, request, route, dialect, ask, opening, trail)
        generation.on_kept = self._shelf.keep
        if self.driver.knows(ask.prompt.model):
            generation.prepare()  # an unknown model is the desk's to refuse
        return generation

    def _resumable(self, prompt: Prompt) -> bool:
        return self.driver.knows(prompt.model) and self.driver.adapter(prompt.model).resumable(prompt)

    def _identify(self, request: Request) -> Key:
        """Whose key the request carries. Only well-formed secrets are hashed and looked up."""
        offered = credentials(request.query, request.headers)
        digests = tuple(keyring.digest(secret) for secret in offered if keyring.well_formed(secret))
        return identity.identify(self.driver.desk.keys, digests, self.driver.now())

    # What needs no engine.

    def _list_models(self, request: Request, route: Route, dialect: Dialect) -> None:
        key = self._identify(request)
        cards = [card for card in self._cards.values() if not key.models or card.id in key.models]
        if route.name == "models":
            self._reply(request, route, dialect.models(route, cards))
            return
        card = next((card for card in cards if card.id == route.model), None)
        if card is None:
            raise UnknownModel("this model is not served here, or not for this key", param="model")
        self._reply(request, route, dialect.model(route, card))

    def _stored(self, request: Request, route: Route) -> None:
        key = self._identify(request)
        body = self._shelf.answer(request.method, route, key.tenant)
        self._reply(request, route, body)

    def _look_up_energy(self, request: Request, route: Route) -> Occupant:
        """Begin to answer with the record of a request's energy, which is read beside the loop."""
        key = self._identify(request)

        def reply(journey: Journey | None) -> None:
            body = None if journey is None else energy.record(journey)
            if body is None:
                raise unknown()
            self._reply(request, route, body)

        def found(journey: Callable[[], Journey | None]) -> None:
            self._answered(request, lambda: reply(journey()))

        return self._records.look_up(route.id or "", key.tenant, found)

    def _health(self, request: Request) -> None:
        ready, reasons = (True, []) if request.path == "/livez" else self._ready()
        ready = ready and not (self.draining and request.path == "/readyz")
        text = "ok\n" if ready else "not ready: " + "; ".join(reasons or ["draining"]) + "\n"
        headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"))
        request.connection.send(request, 200 if ready else 503, headers, text.encode())

    def _preflight(self, request: Request) -> None:
        headers: Headers = self._cors(request)
        if headers:
            allowed = request.headers.get("access-control-request-headers", "authorization, content-type")
            safe = "".join(c for c in allowed if c.isalnum() or c in "-, ")[:1024]
            headers += (
                ("access-control-allow-methods", "GET, POST, DELETE"),
                ("access-control-allow-headers", safe),
                ("access-control-max-age", "600"),
            )
        request.connection.send(request, 204, headers, b"")

    # Replies.

    def _reply(self, request: Request, route: Route, body: bytes) -> None:
        headers = (*self._base_headers(request, _request_id(), route), JSON)
        request.connection.send(request, 200, headers, body)

    def _say(self, request: Request, error: UnderlayError) -> None:
        """Answer with an error that no exchange is there to answer with, and tell its journey."""
        request_id = _request_id()
        try:
            route = choose(request.method, request.path, request.query, request.headers)
        except UnderlayError:
            route = Route("openai", "unknown")
        trail = Trail(request.began_at, request.headers.get("traceparent", ""))
        refusal = DIALECTS[route.dialect].error(error, request_id)
        base = self._base_headers(request, request_id, route, trail.traceparent)
        taken = {name for name, _ in refusal.headers}
        headers = (
            *(h for h in base if h[0] not in taken),
            ("content-type", refusal.content_type),
            *refusal.headers,
        )
        if refusal.status == 405 and route.allow:
            headers += (("allow", route.allow),)
        request.connection.send(request, refusal.status, headers, refusal.body)
        now = self.driver.clock()
        why = f"{error.reason}: {error.param}" if error.param else error.reason  # messages repeat callers' words
        trail.hop("parse", request.began_at, now, who="gateway", why=why)
        self.driver.tell(_refused(request_id, route, error, refusal.status, trail, now, self.driver.now()), "")

    def _base_headers(self, request: Request, request_id: str, route: Route, traceparent: str = "") -> Headers:
        headers: Headers = (("x-request-id", request_id),)
        if route.dialect == "anthropic":
            headers += (("request-id", request_id),)
        elif route.dialect == "openai":
            headers += (("openai-version", "2020-10-01"),)
        if traceparent:
            headers += (("traceparent", traceparent),)
        return headers + self._cors(request)

    def _cors(self, request: Request) -> Headers:
        """Let the console's pages read the reply; nobody else's."""
        origin = request.headers.get("origin")
        if origin is None or origin not in self._origins():
            return ()
        return (
            ("access-control-allow-origin", origin),
            ("vary", "origin"),
            ("access-control-expose-headers", _EXPOSED),
        )


def _request_id() -> str:
    return "req_" + os.urandom(12).hex()


def _refused(
    request_id: str, route: Route, error: UnderlayError, status: int, trail: Trail, now: float, at_s: float
) -> Journey:
    return Journey(
        id=request_id,
        at_s=at_s,
        dialect=route.dialect,
        operation=route.name,
        model=(route.model or "")[:_MODEL_NAME_MAX],
        tenant="",
        key_id="",
        outcome="refused",
        status=status,
        usage=Usage(),
        money_usd="0",
        duration_ms=trail.since_ms(now),
        ttft_ms=None,
        attempts=0,
        hops=tuple(trail.hops),
        trace_id=trail.trace_id,
        reason=error.reason,
    )
