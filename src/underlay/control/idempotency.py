"""Has this very request been answered before?

Decided from the idempotency key a caller sent and the digest of the whole request, per tenant. Only an answer that
was finished is given again: a request that failed, was refused or was left may be sent again under its key, and
then runs. While the first is still being answered a second is refused with a time, and the same key with another
request always. It refuses to know keys and bodies themselves, and does not keep answers: only whose they were.
"""

from __future__ import annotations

from collections import OrderedDict

from underlay.domain.errors import Conflict

#: What callers send the key in.
_PARAM = "Idempotency-Key"


class _Sent:
    """A request under a key; ``ended_at`` is ``None`` while it is being answered."""

    __slots__ = ("body", "ended_at", "ticket")

    def __init__(self, body: str, ticket: str) -> None:
        self.body = body
        self.ticket = ticket
        self.ended_at: float | None = None


class Requests:
    """The requests under keys: open ones, and finished ones for ``kept_s`` after their end.

    At most ``kept_max`` in all: the finished that ended first make room. Open ones are never dropped; there are no
    more than admission lets in.
    """

    __slots__ = ("_done", "_open", "_sent", "kept_max", "kept_s")

    def __init__(self, kept_s: float, kept_max: int) -> None:
        self.kept_s = kept_s
        self.kept_max = kept_max
        self._open: dict[str, tuple[tuple[str, str], _Sent]] = {}  # by ticket
        self._sent: dict[tuple[str, str], _Sent] = {}  # by tenant and key
        # Those that ended, in this order; a plain dict takes ever longer to find its first after many deletions.
        self._done: OrderedDict[tuple[str, str], _Sent] = OrderedDict()

    def begin(self, tenant: str, key: str, body: str, ticket: str, at: float) -> str | None:
        """Note a request, ``key`` and ``body`` being digests; returns the ticket whose answer it gets again.

        ``None`` if it is to run. Raises ``Conflict`` and then notes nothing.
        """
        place = (tenant, key)
        sent = self._sent.get(place)
        if sent is None or self._is_old(sent, at):
            self._note(place, _Sent(body, ticket))
            return None
        if sent.body != body:
            raise Conflict(
                f"this {_PARAM} was sent with another request before; use a new one for each request", param=_PARAM
            )
        if sent.ended_at is None:
            raise Conflict(
                f"the request that was sent first with this {_PARAM} is still being answered; wait for it",
                param=_PARAM,
                retry_after_s=1.0,
                retryable=True,
            )
        return sent.ticket

    def ended(self, ticket: str, finished: bool, at: float) -> None:
        """Note a request's end: its answer can be given again if it is finished. Others are ignored."""
        found = self._open.pop(ticket, None)
        if found is None:
            return
        place, sent = found
        if finished:
            sent.ended_at = at
            self._done[place] = sent
        else:
            del self._sent[place]

    def expire(self, at: float) -> None:
        """Drop what has been kept long enough."""
        done = self._done
        while done:
            place = next(iter(done))
            if not self._is_old(done[place], at):
                return
            del done[place], self._sent[place]

    def check(self) -> None:
        """Verify that the tables agree; raises ``AssertionError``."""
        unended = {place: sent for place, sent in self._sent.items() if sent.ended_at is None}
        assert dict(self._open.values()) == unended, "open requests are not those that have not ended"
        assert {**unended, **self._done} == self._sent, "finished requests are not those that ended"
        assert all(sent.ticket == ticket for ticket, (_, sent) in self._open.items())

    def __len__(self) -> int:
        return len(self._sent)

    def _is_old(self, sent: _Sent, at: float) -> bool:
        return sent.ended_at is not None and at >= sent.ended_at + self.kept_s

    def _note(self, place: tuple[str, str], sent: _Sent) -> None:
        self._done.pop(place, None)
        self._sent[place] = sent
        self._open[sent.ticket] = (place, sent)
        while len(self._sent) > self.kept_max and self._done:
            oldest = next(iter(self._done))
            del self._done[oldest], self._sent[oldest]
