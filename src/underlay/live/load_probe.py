"""How busy does a replica say it is? Asked for the desk, over the gateway's own kept connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from underlay.live.engines.adapter import EngineRequest
from underlay.live.engines.connections import Address, Call, Pool
from underlay.live.fleet import probe

_ASK = EngineRequest("GET", "/metrics", headers=())
#: Later than this an answer says nothing about now.
_ANSWER_S = 1.0

Tell = Callable[[str, int, int], None]


class LoadProbes:
    """At most one question open per replica; ``tell`` hears the name, strands running and strands waiting."""

    def __init__(self, pool: Pool, tell: Tell) -> None:
        self._pool = pool
        self._tell = tell
        self._open: dict[str, _Question] = {}

    def ask(self, replica: str, address: Address) -> None:
        """Ask a replica, unless its last answer is still awaited."""
        if replica not in self._open:
            self._open[replica] = question = _Question(self, replica)
            question.start(self._pool, address)

    def over(self, replica: str, values: dict[str, float]) -> None:
        """Take an answer, which may be empty."""
        self._open.pop(replica, None)
        if values:
            self._tell(replica, *probe.strands(values))

    def close(self) -> None:
        """Wait for no more answers."""
        for question in list(self._open.values()):
            question.give_up()


class _Question:
    """One question. A ``Receiver`` of its call."""

    def __init__(self, probes: LoadProbes, replica: str) -> None:
        self._probes = probes
        self._replica = replica
        self._body: list[bytes] = []
        self._code = 0
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, pool: Pool, address: Address) -> None:
        self._timer = pool.loop.call_later(_ANSWER_S, self.give_up)
        self._call = pool.call(address, _ASK, self)

    def status(self, code: int) -> None:
        self._code = code

    def body(self, data: bytes) -> None:
        self._body.append(data)

    def done(self) -> None:
        self._end(probe.gauges(b"".join(self._body)) if self._code == 200 else {})

    def failed(self, failure: str, detail: str) -> None:
        """Hear nothing: whether it lives is not asked here."""
        del failure, detail
        self._end({})

    def give_up(self) -> None:
        if self._call is not None:
            self._call.abort()
        self._end({})

    def _end(self, values: dict[str, float]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._probes.over(self._replica, values)
