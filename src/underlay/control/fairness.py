"""Whose turn is it among tenants, and who has enough already?

Decided from the service that each tenant of one model has received, in weighted tokens, and from the tenants'
weights. ``Counters`` put those that wait in order; ``Holdback`` leaves a little room for those about to come.
It refuses to know requests, replicas and limits: a tenant within its limits is owed its part, whatever it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from math import ceil, exp, inf, log, sqrt

#: What a token of a prompt and a token of an answer count (VTC, section 4.1: by what they cost an engine).
INPUT_WEIGHT = 1.0
OUTPUT_WEIGHT = 2.0
#: A tenant is about for so long after its last strand ended.
RECENT_S = 30.0
#: What a tenant had in flight so long ago counts a third; and so many times its part is more than its part.
_LATELY_S = 10.0
_OVER = 1.1
#: Added to a computed moment, so that rounding does not make it come too early.
_MOMENT_S = 0.01
#: Spreads of what others have in flight that are kept free: random arrivals seldom need more.
_SPREADS = 2.5
#: In a pool with fewer slots one of them is too large a part to be kept free.
_SMALL_POOL_SLOTS = 4


class _Account:
    """One tenant's counter. ``key`` is where the heap has it, at most ``value`` (infinite: it has it not)."""

    __slots__ = ("key", "value", "waiting", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.value = 0.0
        self.waiting = 0
        self.key = inf


class Counters:
    """Virtual token counters of one model's tenants (VTC; Sheng et al., OSDI 2024).

    Who has received least is served next. A tenant is *active* from ``arrive`` to ``depart``: while it has
    requests that want service and have not got it. Those that run do not make it so: a tenant with always
    one request running would keep an old low counter, and later outrun everybody by what it never asked for.
    Two tenants active all the while receive what differs by at most twice the largest request's tokens.
    """

    __slots__ = ("_accounts", "_active", "_heap", "_last", "_lowered", "_weight_of")

    def __init__(self, weight_of: Callable[[str], float]) -> None:
        self._weight_of = weight_of
        self._accounts: dict[str, _Account] = {}
        self._active = 0
        self._last: _Account | None = None  # that stopped being active
        self._heap: list[tuple[float, str]] = []  # of active tenants; keys may lag behind counters
        self._lowered: Callable[[str], None] | None = None

    def watch(self, lowered: Callable[[str], None]) -> None:
        """Call this with each tenant whose counter went down; for the one line that sorts by them."""
        self._lowered = lowered

    def reweigh(self) -> None:
        """Ask for all weights again; what was received before stays as it was counted."""
        for tenant, account in self._accounts.items():
            account.weight = self._weight_of(tenant)

    def arrive(self, tenant: str) -> None:
        """One more request of this tenant wants service. One that was away gets no credit for its absence."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._open(tenant)
        if account.waiting == 0:
            self._lift(account)
            self._active += 1
            if account.key == inf:
                account.key = account.value
                heappush(self._heap, (account.value, tenant))
        account.waiting += 1

    def depart(self, tenant: str) -> None:
        """A request of this tenant got its service, or wants it no more."""
        account = self._accounts[tenant]
        assert account.waiting > 0, f"more requests of {tenant} departed than arrived"
        account.waiting -= 1
        if account.waiting == 0:
            self._active -= 1
            self._last = account

    def charge(self, tenant: str, tokens: float) -> None:
        """Count weighted tokens that the tenant received; negative ones correct an estimate."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._open(tenant)
        account.value += tokens / account.weight
        if tokens < 0.0:
            self._sink(tenant, account)

    def value(self, tenant: str) -> float:
        """Weighted tokens received, by the tenant's weight; lifts included."""
        account = self._accounts.get(tenant)
        return account.value if account is not None else 0.0

    def weight(self, tenant: str) -> float:
        """The tenant's part beside others."""
        account = self._accounts.get(tenant)
        return account.weight if account is not None else self._weight_of(tenant)

    def _open(self, tenant: str) -> _Account:
        self._accounts[tenant] = account = _Account(self._weight_of(tenant))
        return account

    def _lift(self, account: _Account) -> None:
        """Raise the counter of one that was away to the others'; it is not among them yet."""
        if self._active:
            account.value = max(account.value, self._least())
        elif self._last is not None:
            account.value = max(account.value, self._last.value)

    def _sink(self, tenant: str, account: _Account) -> None:
        """Keep what is sorted by this counter sorted: lagging keys may be too low, never too high."""
        if account.value < account.key < inf:
            account.key = account.value
            heappush(self._heap, (account.value, tenant))
        if self._lowered is not None:
            self._lowered(tenant)

    def _least(self) -> float:
        """The least counter of the active tenants, of whom there is one."""
        heap, accounts = self._heap, self._accounts
        while True:
            key, tenant = heap[0]
            account = accounts[tenant]
            if account.key != key:  # an older entry of a counter that went down
                heappop(heap)
            elif account.waiting == 0:
                heappop(heap)
                account.key = inf
            elif account.value > key:
                account.key = account.value
                heapreplace(heap, (account.value, tenant))
            else:
                return key


class _Presence:
    """One tenant's strands in flight, now and in the mean of lately, and when they last changed."""

    __slots__ = ("about", "mean", "seen_at", "strands", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.strands = 0
        self.mean = 0.0
        self.seen_at = -inf
        self.about = False  # counted among those that are

    def copy(self) -> _Presence:
        """Another one that has seen the same."""
        twin = _Presence(self.weight)
        twin.strands, twin.mean, twin.seen_at, twin.about = self.strands, self.mean, self.seen_at, self.about
        return twin

    def change(self, strands: int, at: float) -> None:
        """So many more, or fewer, are in flight from now on."""
        held, since_s = self.strands, self.seen_at - at
        if since_s < 0.0:  # ``mean_at``, spelled out: this runs several times per request
            self.mean = held + (self.mean - held) * exp(since_s / _LATELY_S)
            self.seen_at = at
        self.strands = held + strands

    def mean_at(self, at: float) -> float:
        """Strands in flight, the last ten seconds most."""
        return self.strands + (self.mean - self.strands) * exp((self.seen_at - at) / _LATELY_S)

    def falls_to(self, mean: float) -> float:
        """When the mean will have fallen below this, which is more than the strands there are."""
        above = max(1.0, (self.mean - self.strands) / (mean - self.strands))
        return self.seen_at + _LATELY_S * log(above) + _MOMENT_S


class Holdback:
    """Keeps the last few slots of a pool from tenants that have more than their fair part, while others are about.

    Fairness in the line is too late for a light tenant: with every slot taken by one other it would wait for a
    whole answer to end. Kept are a few times the usual spread (the square root; arrivals at random) of what others
    have in flight, and a ``share`` of all slots at least. Over its part is who has it now and has had more than it
    lately: by what it has at the moment alone, a modest tenant's ordinary bursts were kept out as well, and then
    moved everybody's p95. The price is what stands idle, but never while only one tenant is about, and never a slot
    of a pool so small that it would be much. ``about`` is how many tenants are.
    """

    __slots__ = (
        "_about_weight",
        "_expiries",
        "_kept",
        "_of_slots",
        "_over_until",
        "_strands",
        "_tenants",
        "_weight_of",
        "about",
        "share",
    )

    def __init__(self, share: float, weight_of: Callable[[str], float]) -> None:
        self.share = share
        self._weight_of = weight_of
        self._tenants: dict[str, _Presence] = {}
        self.about = 0
        self._about_weight = 0.0
        self._expiries: list[tuple[float, str]] = []  # one of each tenant that is about; may be too early
        self._strands = 0  # of all tenants; fewer than the pool's load, if others than these use it
        self._over_until = -inf  # one that is kept out will then have had too much no more
        self._of_slots = self._kept = 0

    def copy(self) -> Holdback:
        """Another one that has seen the same."""
        twin = Holdback(self.share, self._weight_of)
        for tenant, presence in self._tenants.items():
            twin._tenants[tenant] = presence.copy()
        twin.about, twin._about_weight, twin._strands = self.about, self._about_weight, self._strands
        twin._expiries = list(self._expiries)
        return twin

    def keep(self, share: float) -> None:
        """Keep another share of the slots from now on."""
        self.share, self._of_slots = share, -1

    def began(self, tenant: str, strands: int, at: float) -> None:
        """Strands of this tenant were dispatched."""
        presence = self._tenants.get(tenant)
        if presence is None:
            self._tenants[tenant] = presence = _Presence(self._weight_of(tenant))
        presence.change(strands, at)
        self._strands += strands
        if not presence.about:
            self._enter(tenant, presence, at)

    def ended(self, tenant: str, strands: int, at: float) -> None:
        """Strands of this tenant gave their slots back."""
        presence = self._tenants[tenant]
        presence.change(-strands, at)
        self._strands -= strands
        assert presence.strands >= 0, f"more strands of {tenant} ended than began"

    def keeps_out(self, tenant: str, free_slots: int, slots: int, at: float) -> bool:
        """Whether this tenant has to leave the free slots of its pool to others."""
        if self.about < 2:
            return False
        presence = self._tenants.get(tenant)
        if presence is None or presence.strands == 0:
            return False
        if free_slots > self._to_keep(slots, self._strands - presence.strands):
            return False
        if self._expiries[0][0] <= at:
            self._expire(at)
        part = slots * presence.weight / self._about_weight
        if self.about < 2 or presence.strands < part or presence.mean_at(at) < _OVER * part:
            return False
        if presence.strands < _OVER * part:
            until = presence.falls_to(_OVER * part)
            self._over_until = until if self._over_until <= at else min(self._over_until, until)
        return True

    def kept_until(self, free_slots: int, slots: int, at: float) -> float | None:
        """When to look again whether free slots are still kept for somebody; ``None`` if they are not."""
        if free_slots > self._to_keep(slots, self._strands):  # of whom are others, depends on who asks
            return None
        self._expire(at)
        if self.about < 2:
            return None
        expires_at = self._expiries[0][0]
        return min(expires_at, self._over_until) if self._over_until > at else expires_at

    def _to_keep(self, slots: int, others: int) -> int:
        """Slots to keep free while others have so many in flight."""
        if slots != self._of_slots:  # pools seldom change
            self._of_slots = slots
            kept = self.share * slots
            self._kept = int(kept) if slots < _SMALL_POOL_SLOTS else ceil(kept - 1e-9)
        return max(self._kept, ceil(_SPREADS * sqrt(others))) if self._kept and others else self._kept

    def _enter(self, tenant: str, presence: _Presence, at: float) -> None:
        presence.about = True
        presence.weight = self._weight_of(tenant)
        self.about += 1
        self._about_weight += presence.weight
        heappush(self._expiries, (at + RECENT_S, tenant))

    def _expire(self, at: float) -> None:
        """Forget who has not been seen lately and has nothing in flight."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= at:
            tenant = expiries[0][1]
            presence = self._tenants[tenant]
            until = (at if presence.strands else presence.seen_at) + RECENT_S
            if until > at:
                heapreplace(expiries, (until, tenant))
                continue
            heappop(expiries)
            self.about -= 1
            self._about_weight = self._about_weight - presence.weight if self.about else 0.0
            del self._tenants[tenant]
