"""Records to put into a store, and a writer that puts them there."""

import contextlib

from underlay.domain.answer import Usage
from underlay.domain.views import Hop, Journey, LedgerRow
from underlay.live.store_writer import StoreWriter


def charge(number, *, tenant="acme", key_id="key_1", model="m", at_s=1000.0, cost=5):
    return LedgerRow(f"req_{number}", at_s, tenant, key_id, model, "finished", Usage(10, 4, 3), cost)


def journey(number, at_s=1000.0):
    return Journey(
        id=f"req_{number}",
        at_s=at_s,
        dialect="openai",
        operation="chat",
        model="m",
        tenant="acme",
        key_id="key_1",
        outcome="finished",
        status=200,
        usage=Usage(10, 4, 3),
        money_usd="0.001",
        duration_ms=12.5,
        ttft_ms=None,
        attempts=1,
        hops=(Hop("identity", 0.0, 0.1, why="key_1 is live"), Hop("engine", 0.1, 12.0, who="r1", tokens=3)),
    )


@contextlib.contextmanager
def writing(data_dir, **options):
    writer = StoreWriter(data_dir, **options)
    try:
        yield writer
    finally:
        writer.close(timeout_s=5)
