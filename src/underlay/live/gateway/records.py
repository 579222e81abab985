"""What is kept of a request that is over, for whoever asked it: looked up beside the loop, a few at a time.

The store is a file, so one thread of our own reads it, and no token waits for that. Who may see a record is found
out once it is there: somebody else's is as absent as one that never was, and takes as long.

Refused here: keys, and what a record says.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from underlay.domain.errors import NotFound, Overloaded
from underlay.domain.views import Journey

#: Look-ups at once, of all callers; each takes a tenth of a millisecond or so.
LOOKUPS_MAX = 64

_REQUEST_ID = re.compile(r"req_[0-9a-f]{24}")

FindJourney = Callable[[str], Journey | None]
Found = Callable[[Callable[[], Journey | None]], None]


class Lookup:
    """One look-up: the ``Occupant`` of its connection while it lasts."""

    def __init__(self, on_found: Found) -> None:
        self._on_found: Found | None = on_found

    def found(self, journey: Callable[[], Journey | None]) -> None:
        """Pass on what was found, if somebody is still there; ``journey`` raises what looking it up did."""
        if self._on_found is not None:
            self._on_found(journey)

    def client_gone(self) -> None:
        """Nobody is there any more."""
        self._on_found = None

    def pause(self) -> None:
        """The reply is one write."""

    def resume(self) -> None:
        """The reply is one write."""


class Records:
    """Finds records of requests by id. ``find`` may take its time, and is called from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, find: FindJourney) -> None:
        self._loop = loop
        self._find = find
        self._thread = ThreadPoolExecutor(1, "underlay-records")
        self._open = 0

    def look_up(self, request_id: str, tenant: str, on_found: Found) -> Lookup:
        """Find the journey of a tenant's request; ``on_found`` gets a function that returns it, or raises.

        Raises ``NotFound`` where no request has such an id, and ``Overloaded`` while too much is looked up.
        """
        if _REQUEST_ID.fullmatch(request_id) is None:
            raise unknown()
        if self._open >= LOOKUPS_MAX:
            raise Overloaded("too many records are being looked up", retry_after_s=1.0)
        self._open += 1
        lookup = Lookup(on_found)
        future = self._loop.run_in_executor(self._thread, self._of_tenant, request_id, tenant)
        future.add_done_callback(lambda done: self._done(lookup, done))
        return lookup

    def close(self) -> None:
        """Look up nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _of_tenant(self, request_id: str, tenant: str) -> Journey | None:
        journey = self._find(request_id)
        return journey if journey is not None and journey.tenant == tenant else None

    def _done(self, lookup: Lookup, done: asyncio.Future[Journey | None]) -> None:
        self._open -= 1
        if not done.cancelled():
            lookup.found(done.result)


def unknown() -> NotFound:
    """One answer for all of it, so that nobody learns whether somebody else's request exists."""
    return NotFound(
        "no energy is known of a request of this id and this tenant: it may still run, be too"
        " long ago, or ran where nothing is metered",
        param="request_id",
    )
