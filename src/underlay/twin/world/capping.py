"""Who must slow down so that no place draws more than it may, or than can be cooled?

Every place keeps one share: the part of the power above idle that the accelerators under it may draw. A place over
its cap lowers its share so far that it would come to ``TARGET`` of the cap; one with more than enough room (below
``RELEASE``) raises it to the same mark; between the two nothing moves, so a steady load is told once. All under
one place get the same share, and who stands under several the least of theirs: a lower cap never makes anybody
quicker. A site that is too hot has what its plant can carry off for a cap, until it is cooler. What idles cannot
be slowed: a place whose least is over its cap stays over it, and that is said.

Refused here: clocks of the simulation, what a slower clock does to a step.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from underlay.physics.power import CLOCK_EXPONENT, SLOWEST, power_share, slowdown_of
from underlay.twin.world.feeders import Feeders
from underlay.twin.world.power_tree import Floats, Places
from underlay.twin.world.servers import Placed
from underlay.twin.world.topology import LEVELS, Level

TARGET = 0.975
RELEASE = 0.94
LEAST_SHARE = power_share(SLOWEST)
#: Slowdowns are told in steps of this: so few different ones that throttled step times can be kept.
SLOWDOWN_STEP = 0.02


class Capping:
    """The shares of all places, by level, and ``slowdowns``: how much slower each server's clocks run for them.

    ``said`` are texts for the reader, to be taken out.
    """

    __slots__ = ("_feeders", "_granted", "_helpless", "said", "shares", "slowdowns")

    def __init__(self, feeders: Feeders) -> None:
        self._feeders = feeders
        counts = feeders.tree.counts
        self.shares: dict[Level, Floats] = {level: np.ones(counts[level]) for level in LEVELS}
        self.said: list[str] = []
        self.slowdowns = np.ones(counts["server"])
        self._granted = np.ones(counts["server"])
        self._helpless: dict[str, None] = {}

    def act(self) -> list[tuple[Placed, float]]:
        """Adjust all shares to the last average; the replicas whose slowdown is another now, and which."""
        if not self._concerned():
            return []
        for level in LEVELS:
            self._adjust(level, self._caps_w(level))
        self.slowdowns = self._told()
        # What is granted is what was told, which is slower than asked for by up to a step.
        self._granted = self.slowdowns**-CLOCK_EXPONENT
        return self._feeders.servers.retimed(self.slowdowns)

    def slowdown(self, servers: tuple[int, ...]) -> float:
        """How much slower a replica on these servers runs: as its slowest one."""
        return max(float(self.slowdowns[server]) for server in servers)

    def _told(self) -> Floats:
        """The slowdown of each server, by the least share of all places around it."""
        least = self.shares["server"].copy()
        for level in LEVELS[:-1]:
            np.minimum(least, self.shares[level][self._feeders.tree.of_server[level]], out=least)
        different, places = np.unique(least, return_inverse=True)
        return np.array([_step(slowdown_of(float(share))) for share in different])[places]

    def _concerned(self) -> bool:
        """Whether anything is over, or held back: without caps and heat a tick has nothing to do here."""
        if any((shares < 1.0).any() for shares in self.shares.values()):
            return True
        watts = self._feeders.watts
        return any((watts[level] > self._caps_w(level)).any() for level in LEVELS)

    def _caps_w(self, level: Level) -> Floats:
        """The caps of a level; of a site too hot, at most what would leave its plant just enough."""
        feeders = self._feeders
        caps_w = np.minimum(feeders.tree.caps_w[level], feeders.tree.fed_w[level])
        if level != "site" or not any(state.hot for state in feeders.sites):
            return caps_w
        hot = np.array([state.hot for state in feeders.sites])
        return np.where(hot, np.minimum(caps_w, feeders.capacity_w), caps_w)

    def _adjust(self, level: Level, caps_w: Floats) -> None:
        """Set the shares of one level."""
        feeders, shares = self._feeders, self.shares[level]
        load_w = feeders.watts[level]
        moved = np.flatnonzero((load_w > caps_w) | ((shares < 1.0) & (load_w < RELEASE * caps_w)))
        if not len(moved):
            return
        over = load_w[moved] > caps_w[moved]
        # A place that was not the narrowest starts from what those under it really had.
        had = np.zeros(len(shares))
        np.maximum.at(had, feeders.tree.of_server[level], self._granted)
        base = np.where(over, np.minimum(shares[moved], had[moved]), shares[moved])
        room_w = np.minimum(TARGET * caps_w[moved] - load_w[moved], 1e18)
        shares[moved] = np.clip(base * (1.0 + room_w / self._movable_w(level)[moved]), LEAST_SHARE, 1.0)
        self._say_helpless(level, moved[over & (base <= LEAST_SHARE * (1 + 1e-9))], load_w, caps_w)

    def _movable_w(self, level: Level) -> Floats:
        """What of each place's load goes with the clocks under it, its losses and cooling in proportion."""
        feeders = self._feeders
        plugs_w = feeders.tree.sum_servers(level, feeders.watts["server"])
        movable_w = feeders.tree.sum_servers(level, feeders.movable_w)
        found: Floats = movable_w * feeders.watts[level] / np.maximum(plugs_w, 1e-9)
        return np.maximum(found, 1e-9)

    def _say_helpless(self, level: Level, places: Places, load_w: Floats, caps_w: Floats) -> None:
        for place in places:
            path = self._feeders.tree.paths[level][place]
            if path not in self._helpless:
                self._helpless[path] = None
                drawn = f"{path} draws {load_w[place] / 1e3:,.1f} kW and may draw {caps_w[place] / 1e3:,.1f}"
                self.said.append(f"{drawn}: its clocks are as slow as they get")


def _step(slowdown: float) -> float:
    """Rounded to the slower side, so that what is told never draws more than what was meant."""
    return min(ceil((slowdown - 1.0) / SLOWDOWN_STEP - 1e-9) * SLOWDOWN_STEP + 1.0, SLOWEST)
