"""Stored responses (OpenAI's Responses API): kept in memory, for a while, for the tenant who made them.

Replies hold text, so they are kept nowhere else: a restart forgets them. Bounded in number, bytes and time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from underlay.dialects.openai import response_object, responses
from underlay.dialects.wire import Route
from underlay.domain.prompt import Ask, Message
from underlay.live.gateway.generation import Generation

KEPT_MAX = 1_000
KEPT_BYTES_MAX = 67_108_864
KEPT_S = 3_600.0


class _Kept(NamedTuple):
    tenant: str
    at: float
    body: bytes
    messages: tuple[Message, ...]
    size_bytes: int
    session: str  # what the conversation is called: by its caller, or by its first response


class Shelf:
    """The stored responses of all tenants, oldest first. ``now`` tells the time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, exchange: Generation, body: bytes) -> None:
        """Keep the reply of an exchange that is complete."""
        strands = [strand.whole() for strand in exchange.strands]
        messages = responses.conversation_after(exchange.ask, strands)
        size_bytes = len(body) + sum(len(message.text) for message in messages)
        stored_id = response_object.response_id(exchange.opening)
        stored = responses.stored_object(body)
        session = exchange.ask.session or stored_id
        self._kept[stored_id] = _Kept(exchange.tenant, self._now(), stored, messages, size_bytes, session)
        self._bytes += size_bytes
        self._make_room()

    def _make_room(self) -> None:
        while self._kept and (
            len(self._kept) > KEPT_MAX
            or self._bytes > KEPT_BYTES_MAX
            or self._now() - next(iter(self._kept.values())).at > KEPT_S
        ):
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size_bytes

    def continued(self, ask: Ask, tenant: str) -> Ask:
        """The request with the conversation that it continues before it. Raises ``NotFound``."""
        assert ask.previous is not None
        kept = self._find(ask.previous, tenant, param="previous_response_id")
        whole = responses.continued(ask, kept.messages)
        return whole if whole.session else replace(whole, session=kept.session)

    def answer(self, method: str, route: Route, tenant: str) -> bytes:
        """Answer a request about a stored response: GET, DELETE or cancel. Raises a ``CallerError``."""
        stored_id = route.id or ""
        kept = self._find(stored_id, tenant)
        if route.name == "response_cancel":
            raise responses.cancel_refusal(stored_id)
        if method == "DELETE":
            del self._kept[stored_id]
            self._bytes -= kept.size_bytes
            return responses.deleted_object(stored_id)
        return kept.body

    def _find(self, stored_id: str, tenant: str, param: str = "response_id") -> _Kept:
        """Somebody else's response is as absent as one that never was."""
        self._make_room()
        kept = self._kept.get(stored_id)
        if kept is None or kept.tenant != tenant:
            raise responses.not_stored(stored_id, param)
        return kept
