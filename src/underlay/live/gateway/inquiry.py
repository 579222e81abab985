"""A request that an engine answers at once and whole: how many tokens, which vectors."""

from __future__ import annotations

from collections.abc import Sequence

from underlay.control.effects import Dispatch
from underlay.control.events import AttemptFailed, Failure, Finished
from underlay.domain.answer import Receipt, Usage
from underlay.domain.errors import NotSupported, UnderlayError
from underlay.live.computed import Computed
from underlay.live.engines.connections import Call
from underlay.live.gateway.exchange import JSON, Exchange


class Inquiry(Exchange):
    """A token count or a request for embeddings. A ``Receiver`` of its one call."""

    _call: Call | None = None
    _code = 200
    _asked_at = 0.0
    _tokens = 0
    _vectors: Sequence[Sequence[float]] = ()

    def ask_engine(self, effect: Dispatch) -> None:
        """Ask the replica."""
        self._asked_at = self.driver.clock()
        self._code, self._answer = 200, list[bytes]()
        address = self.driver.address(effect.replica)
        if address is None:
            self.broken("connect", "the replica is gone")
            return
        prompt = self.ask.prompt
        self._adapter = self.driver.adapter(prompt.model)
        asked = self._adapter.count(prompt) if prompt.operation == "count" else self._adapter.embed(prompt)
        self._call = self.driver.pool.call(address, asked, self)

    def stop_engine(self) -> None:
        """Destroy the connection."""
        since = self.unheard_since()
        if since is not None:
            unheard = Computed(self.attempt, self.replica, since, self.driver.clock())
            unheard.end(unheard.heard_at, 0, failed=False)
            self.unheard.append(unheard)
        if self._call is not None:
            self._call.abort()
            self._call = None

    def status(self, code: int) -> None:
        """Hear the status."""
        self._code = code

    def body(self, data: bytes) -> None:
        """Hear part of the answer."""
        self._answer.append(data)

    def done(self) -> None:
        """Hear that the answer is whole."""
        body = b"".join(self._answer)
        try:
            usage = self._read(body)
        except UnderlayError as error:
            self.broken(self.blame(error, "engine_error"), error.message)
            return
        now = self.driver.clock()
        self.trail.hop(
            "engine", self._asked_at, now, who=self.replica, tokens=usage.prompt_tokens, attempt=self.attempt
        )
        if usage.prompt_tokens:
            computed = Computed(self.attempt, self.replica, self._asked_at, now)
            computed.prompt_tokens = usage.prompt_tokens
            self.computed.append(computed)
        self.driver.submit(Finished(at=self.driver.now(), ticket=self.ticket, attempt=self.attempt, usage=usage))

    def _read(self, body: bytes) -> Usage:
        """Read the answer. Counting is free: only embeddings use tokens."""
        if self._code in (404, 405):  # no sign of ill health: whoever asks again would hear the same
            raise NotSupported(f"the engine of this model cannot do {self.ask.prompt.operation}s")
        if self._code != 200:
            raise self._adapter.error(self._code, body)
        if self.ask.prompt.operation == "count":
            self._tokens = self._adapter.read_count(body)
            return Usage()
        self._vectors, usage = self._adapter.read_embeddings(body)
        return usage

    def unheard_since(self) -> float | None:
        """Since when the engine reads for an embedding. Counting takes next to nothing."""
        reads = self._call is not None and not self._call.over and self.ask.prompt.operation == "embedding"
        return self._asked_at if reads else None

    def failed(self, failure: str, detail: str) -> None:
        """Hear that the connection broke, or that there is none."""
        asked = self._call
        if failure == "refused":  # then it is gone for everyone, and asking it again would only use up attempts
            self.driver.on_refused(self.replica)
        if self._call is asked:  # else the desk has sent it elsewhere already
            self.broken("reset" if failure == "reset" else "connect", detail)

    def broken(self, failure: Failure, detail: str) -> None:
        """Report that the attempt failed; what comes next is the desk's decision."""
        if failure == "rejected":
            detail = ""  # it may repeat the caller's words, which belong into the reply only
        now = self.driver.clock()
        self.trail.hop("engine", self._asked_at, now, who=self.replica, why=f"failed ({failure}): {detail}")
        self.stop_engine()
        self.driver.submit(
            AttemptFailed(
                at=self.driver.now(), ticket=self.ticket, attempt=self.attempt, failure=failure, detail=detail
            )
        )

    def sweep(self, now: float) -> None:
        """Notice an engine that says nothing."""
        patience_s = 4 * self.driver.engine_settings(self.ask.prompt.model).stall_s  # as for a prompt being read
        if self._call is not None and not self._call.over and now - self._asked_at > patience_s:
            self.broken("stall", f"no answer for {patience_s:.0f} s")

    def complete(self, receipt: Receipt) -> None:
        """Send the answer."""
        if self.answered:
            return
        if self.ask.prompt.operation == "count":
            self._status = 200
            self.answered = True
            body = self.dialect.counted(self.route, self.opening, self._tokens)
            self.connection.send(self.request, 200, self.headers(JSON), body)
            return
        self.send_whole(self.dialect.embedded(self.route, self.ask, self.opening, self._vectors, receipt), receipt)
