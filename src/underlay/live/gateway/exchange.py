"""One request from its arrival to the end of its reply: performs what the desk decides about it.

An ``Exchange`` moves bytes and reports what happened; it decides nothing. ``Generation`` streams from engines,
``Inquiry`` asks an engine one thing (token counts, embeddings).
"""

from __future__ import annotations

from msgspec import structs

from underlay.control.effects import Admitted, Cancel, Charge, Close, Cut, Dispatch, Hold, Refuse, Replay
from underlay.control.events import Arrived, ClientGone, Failure
from underlay.dialects.energy import energy_headers
from underlay.dialects.wire import Dialect, Route
from underlay.domain.answer import Opening, Receipt, Usage
from underlay.domain.errors import (
    ERROR_OF_REASON,
    CallerError,
    Conflict,
    Internal,
    NotSupported,
    UnderlayError,
)
from underlay.domain.keys import Key
from underlay.domain.money import usd
from underlay.domain.prompt import Ask
from underlay.domain.views import Journey
from underlay.live.computed import Computed
from underlay.live.driver import Driver
from underlay.live.gateway.blocks import Digests
from underlay.live.gateway.framing import Headers
from underlay.live.gateway.http import Connection, Request
from underlay.live.gateway.replies import Recorder, Replies
from underlay.live.gateway.trail import Trail

JSON = ("content-type", "application/json")
REPLAYED = ("idempotent-replayed", "true")
#: Nobody asks again: digests of an idempotency key and of the request under it.
NOT_AGAIN = ("", "")


class Exchange:
    """What all requests have in common. An ``Occupant`` of its connection while it lasts."""

    def __init__(
        self,
        driver: Driver,
        request: Request,
        route: Route,
        dialect: Dialect,
        ask: Ask,
        opening: Opening,
        trail: Trail,
    ) -> None:
        self.driver = driver
        self.request = request
        self.connection: Connection | Recorder = request.connection
        self.route = route
        self.dialect = dialect
        self.ask = ask
        self.opening = opening
        self.trail = trail
        self.ticket = opening.request_id
        self.model = ask.prompt.model
        self.computed: list[Computed] = []  # attempts that were heard, for the accounts of energy
        self.unheard: list[Computed] = []  # and those that ended before
        self.guessed_tokens = 0
        self._written_before = request.connection.written_bytes
        self.base_headers: Headers = ()
        self.replies: Replies | None = None  # what was answered before; only where an idempotency key came
        self.key_id = ""
        self.tenant = ""
        self.attempt = 0
        self.replica = ""
        self.started = False  # the head of the reply has been sent
        self.answered = False  # the reply has been sent whole, or broken off
        self.first_token_at: float | None = None
        self.usage = Usage()
        self.rejection: UnderlayError | None = None
        self._cost_pico_usd = 0
        self._status = 0
        self._reason = ""
        self._arrived_at = 0.0
        self._concluded = False

    # From the gateway.

    def begin(
        self, key: Key, digests: Digests, *, resumable: bool, idempotency: tuple[str, str] = NOT_AGAIN
    ) -> None:
        """Bring the request to the desk, under this key."""
        prompt = self.ask.prompt
        blocks = digests.blocks(prompt)
        if self.replies is not None:
            self.connection = Recorder(self.request.connection, self._keep_reply)
        self._arrived_at = self.driver.clock()
        self.trail.hop(
            "parse", self.trail.began_at, self._arrived_at, who="gateway", why=f"{self.dialect.name} dialect"
        )
        self.driver.enter(self)
        self.driver.submit(
            Arrived(
                at=self.driver.now(),
                ticket=self.ticket,
                digests=(key.digest,),
                model=prompt.model,
                operation=prompt.operation,
                prompt_bytes=prompt.size_bytes(),
                max_tokens=prompt.sampling.max_tokens,
                strands=prompt.strands,
                streaming=self.ask.stream,
                resumable=resumable,
                deadline_s=self.ask.deadline_s,
                blocks=blocks,
                session=digests.session(self.ask.session, key.tenant),
                band=self.ask.band,
                idempotency=idempotency,
                defer_s=self.ask.defer_s,
            )
        )

    # From the desk.

    def admitted(self, effect: Admitted) -> None:
        """Note who asks."""
        self.key_id, self.tenant = effect.key_id, effect.tenant
        if effect.band != self.ask.band:  # none was asked for, or one above what the key may have
            self.ask = structs.replace(self.ask, band=effect.band)
        self.trail.hop("admission", self._arrived_at, self.driver.clock(), who="desk", why=effect.why)

    def hold(self, effect: Hold) -> None:
        """Wait in line."""
        self.trail.join_line(self.driver.clock(), f"place {effect.place}: {effect.why}")

    def dispatch(self, effect: Dispatch) -> None:
        """Give the request to a replica."""
        now = self.driver.clock()
        self.trail.leave_line(now)
        self.trail.hop("routing", now, now, who=effect.replica, why=effect.why)
        self.attempt, self.replica = effect.attempt, effect.replica
        self.guessed_tokens = self.driver.guessed_tokens(self.ticket)
        try:
            self.ask_engine(effect)
        except UnderlayError as error:  # the adapter cannot say it to this kind of engine
            self.broken(self.blame(error, "engine_error"), error.message)

    def replay(self, effect: Replay) -> None:
        """Send the reply that the same request got before; the request is over, and nothing is charged."""
        now = self.driver.clock()
        self.trail.hop("replay", now, now, who="desk", why=effect.why)
        kept = None if self.replies is None else self.replies.find(effect.original, self.tenant)
        if kept is None:
            message = "this request was answered, but its answer is not kept any more; use another idempotency key"
            self.fail(Conflict(message, param="Idempotency-Key"))
            self._conclude("refused")
            return
        self._status = kept.status
        self.started = self.answered = True
        headers = self.headers(("content-type", kept.content_type), REPLAYED, ("x-cost-usd", "0"))
        self.request.connection.send(self.request, kept.status, headers, kept.body)
        self._conclude("replayed")

    def _keep_reply(self, status: int, content_type: str, body: bytes) -> None:
        if self.replies is not None:
            self.replies.keep(self.ticket, self.tenant, status, content_type, body)

    def ask_engine(self, effect: Dispatch) -> None:
        """Start the attempt."""
        raise NotImplementedError

    def stop_engine(self) -> None:
        """Destroy the connections of the present attempt."""
        raise NotImplementedError

    def broken(self, failure: Failure, detail: str) -> None:
        """Report that the attempt failed; what comes next is the desk's decision."""
        raise NotImplementedError

    def blame(self, error: UnderlayError, failure: Failure) -> Failure:
        """Say whose fault an error is; one that another replica would only repeat is kept for the reply."""
        if isinstance(error, CallerError | NotSupported):
            self.rejection = error
            return "rejected"
        return failure

    def cancel(self, effect: Cancel) -> None:
        """Stop the present attempt."""
        if effect.attempt == self.attempt:
            self.stop_engine()

    def refuse(self, effect: Refuse) -> None:
        """Answer with a refusal; the request is over."""
        now = self.driver.clock()
        because = f"{effect.why}: {effect.message}"
        if self.trail.waiting:
            self.trail.leave_line(now, f"; {because}")
        else:
            self.trail.hop("admission", self._arrived_at, now, who="desk", why=because)
        kind = ERROR_OF_REASON[effect.reason]
        # A conflict with a time is with a request that is still being answered: it goes away by waiting.
        again = True if kind is Conflict and effect.retry_after_s is not None else None
        self.fail(kind(effect.message, param=effect.param, retry_after_s=effect.retry_after_s, retryable=again))
        self._conclude("refused")

    def cut(self, effect: Cut) -> None:
        """End the caller's stream with an error of ours, and report what was produced."""
        self.fail(ERROR_OF_REASON[effect.reason](effect.message))
        self.driver.submit(ClientGone(at=self.driver.now(), ticket=self.ticket, usage=self.produced()))

    def charge(self, effect: Charge) -> None:
        """Remember what it cost, for the receipt."""
        self.usage, self._cost_pico_usd = effect.usage, effect.cost_pico_usd

    def close(self, effect: Close) -> None:
        """Send the end of the reply; the request is over."""
        self.trail.leave_line(self.driver.clock())
        if effect.outcome == "finished":
            try:
                self.complete(Receipt(self.usage, usd(self._cost_pico_usd), self.driver.energy_of(self)))
            except UnderlayError as nonsense:  # what the engine said cannot be said in the caller's dialect
                self.fail(nonsense)
        elif effect.outcome == "failed":
            error = self.rejection or ERROR_OF_REASON.get(effect.reason, Internal)(effect.message)
            self.fail(error)
        else:
            self._status = self._status or 499
            self._reason = self._reason or "client_gone"
        self.trail.hop("settle", (now := self.driver.clock()), now, who="ledger", why=effect.why)
        self._conclude(effect.outcome)

    def complete(self, receipt: Receipt) -> None:
        """Send the last of a good reply."""
        raise NotImplementedError

    def produced(self) -> Usage:
        """What engines have produced so far."""
        return Usage()

    def carried_bytes(self) -> int:
        """Bytes of the request and of its reply as the caller sent and got them, without what frames packets."""
        head = sum(len(name) + len(value) + 4 for name, value in self.request.headers.items())
        return head + len(self.request.body) + self.request.connection.written_bytes - self._written_before

    def unheard_since(self) -> float | None:
        """Since when an engine works on it that has said nothing yet, if one does."""
        return None

    # From the connection.

    def client_gone(self) -> None:
        """Nobody is there any more."""
        if not self.answered:
            self.answered = True
            self.driver.submit(ClientGone(at=self.driver.now(), ticket=self.ticket, usage=self.produced()))

    def pause(self) -> None:
        """The client reads too slowly."""

    def resume(self) -> None:
        """The client caught up."""

    def sweep(self, now: float) -> None:
        """Look at the time, twice a second or so."""

    def abandon(self) -> None:
        """Give up after a defect of ours: drop the connection, which reports ``ClientGone``.

        Where the desk has let go of the request already it says no more about it, so it ends here.
        """
        if self.ticket in self.driver.desk.tickets:
            self.connection.abort()
        elif not self._concluded:
            if self.started:
                self.answered = True
                self.connection.abort()
            self.fail(Internal("a defect of ours; it was logged"))
            self._conclude("failed")

    # Replies.

    def headers(self, *more: tuple[str, str]) -> Headers:
        """The headers of a good reply."""
        timing = ("server-timing", self.trail.server_timing())
        spent_ms = sum(h.duration_ms for h in self.trail.hops if h.name in ("parse", "admission", "routing"))
        overhead = ("x-underlay-overhead-ms", f"{spent_ms:.3f}")
        limits = self.driver.limit_headers(self.key_id, self.dialect.name)
        return (*self.base_headers, timing, overhead, *self._line_headers(), *limits, *more)

    def _line_headers(self) -> Headers:
        """Where it stands in line, or how long it stood there, and the class of urgency that it was given."""
        headers: Headers = (("x-underlay-band", self.ask.band),) if self.ask.band else ()
        if self.trail.waiting and (place := self.driver.queue_place(self.ticket)) is not None:
            return (*headers, ("x-underlay-queue-place", str(place)))
        if self.trail.waited_s:
            return (*headers, ("x-underlay-queue-wait-ms", f"{self.trail.waited_s * 1e3:.0f}"))
        return headers

    def send_whole(self, body: bytes, receipt: Receipt) -> None:
        """Send a whole good reply."""
        self._status = 200
        self.started = self.answered = True
        headers = self.headers(JSON, ("x-cost-usd", receipt.cost_usd), *energy_headers(receipt))
        self.connection.send(self.request, 200, headers, body)

    def fail(self, error: UnderlayError) -> None:
        """Say that it failed: as a status if nothing was sent yet, else in-band, and then break off."""
        self._status, self._reason = error.status, error.reason
        if self.answered:
            return
        self.answered = True
        if self.started:
            self.connection.break_stream(self.error_frame(error))
            return
        refusal = self.dialect.error(error, self.ticket)
        self._status = refusal.status
        headers = (
            *_without(self.base_headers, refusal.headers),
            ("content-type", refusal.content_type),
            *refusal.headers,
        )
        self.connection.send(self.request, refusal.status, headers, refusal.body)

    def error_frame(self, error: UnderlayError) -> bytes:
        """The error as the dialect says it in mid-stream."""
        raise NotImplementedError

    def _conclude(self, outcome: str) -> None:
        """Tell the journey and forget the request."""
        self._concluded = True
        now = self.driver.clock()
        self.driver.leave(self)
        ttft_ms = None if self.first_token_at is None else self.trail.since_ms(self.first_token_at)
        journey = Journey(
            id=self.ticket,
            at_s=self.opening.created_s,
            dialect=self.dialect.name,
            operation=self.ask.prompt.operation,
            model=self.ask.prompt.model,
            tenant=self.tenant,
            key_id=self.key_id,
            outcome=outcome,
            status=self._status,
            usage=self.usage,
            money_usd=usd(self._cost_pico_usd),
            duration_ms=self.trail.since_ms(now),
            ttft_ms=ttft_ms,
            attempts=self.attempt,
            hops=tuple(self.trail.hops),
            trace_id=self.trail.trace_id,
            reason=self._reason,
            ignored=self.ask.ignored,
        )
        self.driver.tell(journey, self.replica)


def _without(headers: Headers, others: Headers) -> Headers:
    """The headers that ``others`` does not set itself."""
    taken = {name for name, _ in others}
    return tuple(header for header in headers if header[0] not in taken)
