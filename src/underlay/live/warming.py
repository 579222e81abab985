"""Fill a new replica's prefix caches with what every conversation begins with, while nobody needs it.

The transcript of a base model opens with the same examples for everybody. A slot that has read them answers its
first question a third of a second sooner; slots do not share what they have read.
"""

from __future__ import annotations

import asyncio

from underlay.live.driver import Driver
from underlay.live.engines.adapter import EngineRequest
from underlay.live.fleet.status import ReplicaStatus

_IDLE_LOOK_S = 0.25
_REPLY_S = 60.0


class _Reply:
    """A ``Receiver`` that only cares whether the reply is over."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def status(self, code: int) -> None:
        """Hear the status: a refusal does no harm."""

    def body(self, data: bytes) -> None:
        """Hear the answer, which is empty."""

    def done(self) -> None:
        """Hear that it is over."""
        if not self.over.done():
            self.over.set_result(None)

    def failed(self, failure: str, detail: str) -> None:
        """Hear that it went wrong: whoever comes first warms the slot, as without us."""
        del failure, detail
        self.done()


async def warm(driver: Driver, status: ReplicaStatus) -> None:
    """Warm every slot of a replica, one at a time, each only while no request is on the replica."""
    generation = status.generation
    for slot in range(status.slots):
        request = driver.adapter(status.model).warm(slot)
        if request is None:
            return
        while driver.load(status.name):  # noqa: ASYNC110  # the desk tells nobody when a load ends
            await asyncio.sleep(_IDLE_LOOK_S)
        if status.generation != generation or status.state != "ready":
            return
        await _ask(driver, status, request)


async def _ask(driver: Driver, status: ReplicaStatus, request: EngineRequest) -> None:
    reply = _Reply()
    call = driver.pool.call(status.address, request, reply)
    try:
        async with asyncio.timeout(_REPLY_S):
            await reply.over
    except TimeoutError:
        call.abort()
