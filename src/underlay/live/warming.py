"""Fill a new replica's prefix caches with what every conversation begins with, while nobody needs it.

The transcript of a base model opens with the same examples for everybody. A slot that has read them answers its
first question a third of a second sooner; slots do not share what they have read.
"""

from __future__ import annotations

import asyncio
import time

from underlay.live.driver import Driver
from underlay.live.engines.adapter import EngineRequest
from underlay.live.engines.slots import Slots
from underlay.live.fleet.status import ReplicaStatus

_IDLE_LOOK_S = 0.25
_STALE_LOOK_S = 5.0
_REPLY_S = 60.0


class _Reply:
    """A ``Receiver`` that only cares whether the reply is over."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.well = True
        self.said: list[bytes] = []

    def status(self, code: int) -> None:
        """Hear the status: a refusal does no harm."""
        self.well = code == 200

    def body(self, data: bytes) -> None:
        """Hear the answer, which has counts and no text."""
        self.said.append(data)

    def done(self) -> None:
        """Hear that it is over."""
        if not self.over.done():
            self.over.set_result(None)

    def failed(self, failure: str, detail: str) -> None:
        """Hear that it went wrong: whoever comes first warms the slot, as without us."""
        del failure, detail
        self.well = False
        self.done()


async def warm(driver: Driver, status: ReplicaStatus, slots: Slots | None = None) -> None:
    """Warm every slot of a replica, one at a time, each only while no request is on the replica.

    With the books in ``slots`` a warmed slot is anybody's again, whoever had it before: it holds nothing else. Then
    this goes on for as long as the replica lives and warms again what tenants have left behind.
    """
    generation = status.generation

    def alive() -> bool:
        return status.generation == generation and status.state == "ready"

    for slot in range(status.slots):
        request = driver.adapter(status.model).warm(slot)
        if request is None:
            return
        while driver.load(status.name):  # noqa: ASYNC110  # the desk tells nobody when a load ends
            await asyncio.sleep(_IDLE_LOOK_S)
        if not alive():
            return
        await _warm_slot(driver, status, slots, slot)
    while slots is not None and alive():
        stale = slots.stale(status.name, time.monotonic())
        if stale is not None and not driver.load(status.name):
            await _warm_slot(driver, status, slots, stale)
        await asyncio.sleep(_STALE_LOOK_S)


async def _warm_slot(driver: Driver, status: ReplicaStatus, slots: Slots | None, slot: int) -> None:
    seat = None if slots is None else slots.take_free(status.name, slot, time.monotonic())
    request = driver.adapter(status.model).warm(slot)
    if request is None or (slots is not None and seat is None):
        return  # somebody was quicker
    read = False
    try:
        read = await _ask(driver, status, request)
    finally:
        if seat is not None:
            seat.give_back(time.monotonic(), clean=read, public=True)


async def _ask(driver: Driver, status: ReplicaStatus, request: EngineRequest) -> bool:
    """Whether the slot has read it all."""
    reply = _Reply()
    driver.on_warms(status.model, status.name)
    read = 0
    call = driver.pool.call(status.address, request, reply)
    try:
        async with asyncio.timeout(_REPLY_S):
            await reply.over
        if reply.well:
            read = driver.adapter(status.model).read_warm(b"".join(reply.said))
    except TimeoutError:
        return False
    finally:
        driver.on_warmed(status.model, status.name, read)
        if not reply.over.done() or reply.over.cancelled():
            call.abort()  # too slow, or we are stopping: the engine need not go on
    return reply.well
