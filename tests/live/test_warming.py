"""Warming, with an engine that only answers."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from underlay.live.engines.llamacpp import LlamaCpp
from underlay.live.engines.slots import Slots
from underlay.live.fleet.status import ReplicaStatus
from underlay.live.warming import warm


class Pool:
    """Answers every call at once, with this status."""

    def __init__(self, code):
        self.code = code
        self.asked = []

    def call(self, address, request, reply):
        self.asked.append((address, request))
        reply.status(self.code)
        asyncio.get_running_loop().call_soon(reply.done)


def warmed(slots, *, code=200):
    pool = Pool(code)
    driver = SimpleNamespace(
        pool=pool,
        load=lambda _: 0,
        adapter=lambda _: LlamaCpp("m"),
        on_warms=lambda *_: None,
        on_warmed=lambda *_: None,
    )
    status = ReplicaStatus("m/0", "m", "llamacpp", 2, address=("127.0.0.1", 1), state="ready")

    async def until_all_is_done():
        task = asyncio.create_task(warm(driver, status, slots))
        await asyncio.sleep(0.02)
        status.generation += 1
        task.cancel()

    asyncio.run(until_all_is_done())
    return pool.asked


@pytest.mark.parametrize(("code", "reuse"), [(200, True), (503, False)])
def test_a_slot_is_everybodys_again_only_if_it_was_really_warmed(code, reuse):
    slots = Slots()
    slots.opened("m/0", 2)
    for _ in range(2):
        slots.take("m/0", "ann", 0.0).give_back(0.0, clean=True)
    assert len(warmed(slots, code=code)) == 2
    assert [slots.take("m/0", "bob", 0.0).reuse for _ in range(2)] == [reuse] * 2


def test_a_slot_in_use_is_left_alone():
    slots = Slots()
    slots.opened("m/0", 2)
    slots.take("m/0", "ann", 0.0)
    assert len(warmed(slots)) == 1


def test_slots_nobody_keeps_books_of_are_all_warmed():
    assert len(warmed(None)) == 2


def test_what_a_tenant_left_behind_is_warmed_again_for_newcomers(monkeypatch):
    slots = Slots()
    slots.opened("m/0", 2)
    warmed(slots)
    now_s = time.monotonic()
    for name in ("ann", "bob"):
        slots.take("m/0", name, now_s).give_back(now_s, clean=True)
    assert slots.stale("m/0", now_s + 1) is None
    monkeypatch.setattr("underlay.live.engines.slots.STALE_S", 0.0)
    monkeypatch.setattr("underlay.live.warming._STALE_LOOK_S", 0.001)
    assert len(warmed(slots)) == 2  # the first pass; then both are anybody's, and nothing is left to do
    for name in ("ann", "bob"):
        slots.take("m/0", name, now_s).give_back(now_s, clean=True)
    assert slots.stale("m/0", now_s) == 0


def test_a_tenant_alone_keeps_its_slots():
    slots = Slots()
    slots.opened("m/0", 2)
    for opening in range(2):
        slots.take("m/0", "ann", 0.0, opening).give_back(0.0, clean=True)
    assert slots.stale("m/0", 1e9) is None
    assert slots.stale("elsewhere", 1e9) is None
