"""Something broke: who is sick, and what becomes of the request?

Decided from how an attempt failed, what its caller has already seen, and how often was tried. A request whose
delivered part can be continued is; one of which nothing was seen starts afresh, within a budget; one that is
neither ends in a visible error, never in a clean end. A replica that fails several times in a row, or grows far
slower than its peers and itself, is left alone for a while, and gets its part back in steps. Most of a pool is
never sent away: when everything fails it is not the replicas that are sick. It refuses to know why a process
died: the fleet finds out and restarts it.
"""

from __future__ import annotations

from typing import Literal

from underlay.domain.policy import DeskSettings

from .fleet import Pool, Replica

Verdict = Literal["resume", "restart", "give_up"]

#: For people: what each failure means.
MEANING = {
    "connect": "refused the connection",
    "reset": "broke the connection",
    "stall": "produced nothing for too long",
    "engine_error": "answered with an error",
    "malformed": "sent something unreadable",
    "rejected": "rejected the request",
    "lost": "was lost",
}
#: What may start afresh in any ten seconds however quiet it is (Finagle's RetryBudget: 10 per second).
FRESH_STARTS_MIN = 100
_WINDOW_S = 10
#: Service without being sent away that makes one earlier time forgotten (Envoy: one per healthy interval).
_FORGET_S = 60.0
#: How many times slower than its pool and than itself a replica is that must be sick.
_SLOWER_THAN_POOL = 3.0
_SLOWER_THAN_USUAL = 2.0
#: A median of fewer says little.
_PEERS_MIN = 3
_RAMP_STEPS = 4


def verdict(*, attempts: int, settings: DeskSettings, seen: bool, resumable: bool) -> tuple[Verdict, str]:
    """Say what becomes of a request whose attempt failed, and why.

    ``seen`` tells whether its caller has already been sent some of the answer.
    """
    if attempts >= settings.attempts_max:
        return "give_up", f"{attempts} replicas were tried, the most allowed"
    if not seen:
        return "restart", "nothing had been delivered, so it starts afresh"
    if resumable:
        return "resume", "it goes on from exactly what was delivered"
    return "give_up", "its constrained output cannot be continued from the middle"


class RetryBudget:
    """Bounds what starting afresh adds to a platform that is failing already.

    At every fresh start, those of the ten seconds that end with it are at most ``share`` of the first attempts of
    the same ten seconds, plus ``FRESH_STARTS_MIN`` (Finagle's rule, with a sliding window instead of a leaking
    bucket). Time is counted in whole seconds, each in doubt against the spender: a second that the window only
    touches counts with its fresh starts and without its first attempts. Streams that go on elsewhere are not
    counted: their callers see them, and each ticket has a number of attempts of its own.
    """

    __slots__ = (
        "_firsts",
        "_firsts_before",
        "_firsts_now",
        "_second",
        "_spent",
        "_spent_window",
        "_until",
        "share",
    )

    def __init__(self, share: float) -> None:
        self.share = share
        self._second = 0  # the present one; the lists hold the seconds before it, by remainder
        self._until = 0.0
        self._firsts = [0] * (_WINDOW_S + 1)
        self._spent = [0] * (_WINDOW_S + 1)
        self._firsts_now = 0
        self._firsts_before = 0  # in the whole seconds that the window holds beside the present one
        self._spent_window = 0  # in the present second and in all that the window touches

    def first(self, at: float) -> None:
        """Count a first attempt."""
        if at >= self._until:
            self._roll(at)
        self._firsts_now += 1

    def spend(self, at: float) -> bool:
        """Take one fresh start, if there is one."""
        if at >= self._until:
            self._roll(at)
        if not self._allows(self._firsts_before + self._firsts_now, self._spent_window):
            return False
        self._spent[self._second % (_WINDOW_S + 1)] += 1
        self._spent_window += 1
        return True

    def ready_at(self, at: float) -> float:
        """When the next may be had if no other request comes meanwhile: now, or at the turn of a second."""
        if at >= self._until:
            self._roll(at)
        firsts, spent = self._firsts_before + self._firsts_now, self._spent_window
        second = self._second
        while not self._allows(firsts, spent):  # ends: after eleven turns nothing is left in the window
            second += 1
            spent -= self._spent[second % (_WINDOW_S + 1)]
            firsts -= self._firsts_in(second - _WINDOW_S)
        return at if second == self._second else float(second)

    def _allows(self, firsts: int, spent: int) -> bool:
        return spent + 1 <= self.share * firsts + FRESH_STARTS_MIN

    def _firsts_in(self, second: int) -> int:
        if second < self._second:
            return self._firsts[second % (_WINDOW_S + 1)]
        return self._firsts_now if second == self._second else 0

    def _roll(self, at: float) -> None:
        """Begin the second of ``at``; forget what lies too far back."""
        second = int(at)
        kept = _WINDOW_S + 1
        self._firsts[self._second % kept] = self._firsts_now
        for gone in range(self._second + 1, min(second, self._second + kept) + 1):
            self._firsts[gone % kept] = self._spent[gone % kept] = 0
        self._firsts_now = 0
        self._second = second
        self._until = float(second + 1)
        self._spent_window = sum(self._spent)
        self._firsts_before = sum(self._firsts) - self._firsts[(second - _WINDOW_S) % kept]


def strike(pool: Pool, replica: Replica, settings: DeskSettings, at: float) -> bool:
    """Count a failure against a replica; True if it must now be left alone until ``suspect_until``.

    Strikes are not forgotten by being sent away: one more failure after its return sends it away again.
    """
    replica.strikes += 1
    return replica.strikes >= settings.strikes_max and eject(pool, replica, settings, at)


def eject(pool: Pool, replica: Replica, settings: DeskSettings, at: float) -> bool:
    """Say until when a replica is to be left alone, in ``suspect_until``; False if it must stay.

    Each time is twice as long as the one before (Envoy multiplies by the number of times).
    """
    if replica.state != "ready" or not _can_spare_one(pool, settings.eject_share_max):
        return False
    replica.ejections += 1
    times = 2 ** min(replica.ejections - 1, 32)
    replica.suspect_until = at + min(settings.suspect_s * times, settings.suspect_max_s)
    return True


def _can_spare_one(pool: Pool, share_max: float) -> bool:
    """Whether one more may be sent away: never the last, and of few replicas one at a time.

    Lost ones count too: when many are, the failures of the others are those of overload, and leaving more of
    them alone would finish the platform off (Envoy's panic threshold).
    """
    if pool.ready < 2 or share_max <= 0.0:
        return False
    members = pool.members
    if len(members) - pool.ready + 1 <= share_max * len(members):
        return True
    return all(member.state in {"ready", "lost"} for member in members.values())


def praise(replica: Replica, at: float) -> None:
    """Note a finished attempt: the strikes are forgotten, and after a while of such service an ejection."""
    replica.strikes = 0
    if replica.ejections and replica.state == "ready" and at >= replica.suspect_until + _FORGET_S:
        replica.ejections -= 1
        replica.suspect_until = at


def outlier(pool: Pool, replica: Replica) -> str:
    """Say why a replica is sick by its own measurements, or "".

    Its time between tokens is far above its pool's median and above what is usual for itself: a small accelerator
    among large ones is slow, not sick, and routing knows how slow. Nor is one that is busier than usual: in a surge
    the first to fill up would be sent away, then those that get its work. What was measured before it last came
    back does not count. Costs next to nothing unless the replica has become slower.
    """
    limit = replica.limit
    if limit is None or replica.state != "ready" or limit.itl_at <= replica.suspect_until:
        return ""
    itl_s = limit.steady_itl_s
    if itl_s <= _SLOWER_THAN_USUAL * limit.usual_itl_s:
        return ""
    peers = [
        member.limit.steady_itl_s
        for member in pool.members.values()
        if member.state == "ready" and member.limit is not None and member.limit.steady_itl_s > 0.0
    ]
    if len(peers) < _PEERS_MIN:
        return ""
    median_s = sorted(peers)[(len(peers) - 1) // 2]
    if itl_s <= _SLOWER_THAN_POOL * median_s:
        return ""
    return f"with as much work as usual it takes {itl_s * 1000:.0f} ms a token, its pool {median_s * 1000:.0f} ms"


def ramp(replica: Replica, pool: Pool, settings: DeskSettings, at: float) -> float | None:
    """Give a replica that came back at ``ramp_from`` the part of its slots that is due by now.

    Returns when to look again; ``None`` once it has all (``ramp_from`` is ``None`` then). With nobody else ready,
    or nothing to carry, it gets all at once: a cold one is better than none, and a platform that starts is idle.
    """
    ramp_from = replica.ramp_from
    capacity, again_at = replica.slots, None
    others = pool.ready - (replica.state == "ready")
    if ramp_from is not None and others > 0 and pool.load > replica.load:
        for passed in range(_RAMP_STEPS):
            step_at = ramp_from + settings.slow_start_s * (passed + 1) / _RAMP_STEPS
            if at < step_at:
                capacity, again_at = max(1, replica.slots * passed // _RAMP_STEPS), step_at
                break
    if capacity >= replica.slots:
        replica.ramp_from = again_at = None
    if replica.capacity != capacity:
        replica.capacity = capacity
        pool.changed(replica)
    return again_at
