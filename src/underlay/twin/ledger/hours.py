"""What did every region draw, emit and pay in each hour of a run?

A request is charged by the hour that it was answered in, as grids and prices have hours. Hours are those of the
run's clock and end where its energy was next settled, a tick later at most. Refused here: requests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from underlay.twin.world import energy_book as book
from underlay.twin.world.feeders import Feeders
from underlay.twin.world.power_tree import Floats, summed


class Hours(NamedTuple):
    """``ends_s`` of each hour, and ``drawn`` by column of the energy book, hour and region.

    ``known``, by column and region: whether all sites there could fill it; ``accelerators`` by region.
    """

    regions: list[str]
    ends_s: Floats
    drawn: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]
    accelerators: Floats

    def hour_of(self, times_s: Floats) -> npt.NDArray[np.int64]:
        """The number of the hour of each time; beyond the last one, that."""
        found = np.searchsorted(self.ends_s, times_s, side="left")
        return np.minimum(found, len(self.ends_s) - 1)

    def idle_share(self, region: int) -> float:
        """The part of the time of a region's accelerators in which no step ran; of none, 1."""
        provided_s = float(self.accelerators[region] * self.ends_s[-1])
        busy_s = float(self.drawn[book.HOURS, :, region].sum())
        return 1.0 - min(busy_s / provided_s, 1.0) if provided_s > 0.0 else 1.0


def hours_of(feeders: Feeders, at: float) -> Hours:
    """Everything that was settled by ``at``, by the hour."""
    tree = feeders.tree
    of_region, regions = tree.parents["site"], tree.paths["region"]
    marks = [*feeders.book.marks, (at, feeders.book.sums)]
    ends_s = np.array([end_s for end_s, _ in marks[1:]])
    sums = np.array([[summed(of_region, column, len(regions)) for column in columns] for _, columns in marks])
    known = np.ones((len(book.KINDS), len(regions)), dtype=np.bool_)
    for site, region in enumerate(of_region):
        known[:, region] &= feeders.book.known[:, site]
    accelerators = tree.sum_sites(tree.sum_servers("site", feeders.servers.accelerators))
    return Hours(regions, ends_s, np.diff(sums, axis=0).transpose(1, 0, 2), known, accelerators)
