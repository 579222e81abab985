"""What is lost between the utility's feeder and the servers' plugs?

Every stage passes on less than it takes: the uninterruptible supply of a hall, its distribution, the shelves or
strips of a rack. No whole curve was published for any of them, so a loss has the two parts that two points can
fix: a constant one, as long as the stage is on, and one in proportion to what passes. Refused here: caps, trees,
clocks.

* Uninterruptible supply, double conversion, ``typical``: 0.95 efficient at 85 % of its rating (vendor: 0.94 to
  0.96), 0.03 less at 30 % (vendor: 0.02 to 0.04 less); the middle of both bands. 0.938 at half load, where
  redundant pairs run. ``best``: 0.97 at every load, the best a vendor claims. ``eco``: 0.99, bypassed while the
  grid is good.
* Rack: 0.8 of 132 kW, the shelves of one published rack. Distribution and transformers between: nobody's figure
  was found; 1 % is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from underlay.physics.tables import rows

UpsKind = Literal["typical", "best", "eco", "none"]

#: Of what passes through transformers and distribution: assumed.
DISTRIBUTION_SHARE = 0.01
_HIGH_LOAD, _LOW_LOAD = 0.85, 0.3


class Loss(NamedTuple):
    """What a stage loses: ``fixed_share`` of its rating while it is on, ``share`` of what it passes on."""

    fixed_share: float
    share: float

    def watts(self, load_w: float, rated_w: float) -> float:
        """The loss at this load."""
        return self.fixed_share * rated_w + self.share * load_w

    def efficiency(self, load_share: float) -> float:
        """What comes out of what goes in, at this part of the rating."""
        return load_share / (load_share + self.watts(load_share, 1.0))

    def after(self, earlier: Loss) -> Loss:
        """Both as one stage; the ``earlier`` one is nearer to the servers, and this one feeds it."""
        through = 1.0 + self.share
        return Loss(self.fixed_share + earlier.fixed_share * through, self.share + earlier.share * through)


@dataclass(frozen=True, slots=True)
class PowerChain:
    """The stages of one hall: ``rack`` for each of its racks, ``hall`` for all of it."""

    rack: Loss
    hall: Loss

    def fed_share(self, load_share: float) -> float:
        """The watts that go in for each that servers draw, with everything at this part of its rating."""
        hall = self.hall.share + self.hall.fixed_share / load_share
        return (1.0 + self.rack.share) * (1.0 + hall)


def chain(ups: UpsKind = "best", *, distribution_share: float = DISTRIBUTION_SHARE) -> PowerChain:
    """The stages between feeder and servers, with this kind of uninterruptible supply."""
    point = points()
    rack = Loss(0.0, point["rack_shelf_loss_kw"] / (point["rack_shelf_of_kw"] - point["rack_shelf_loss_kw"]))
    hall = ups_loss(ups).after(Loss(0.0, distribution_share))
    return PowerChain(rack, hall)


def ups_loss(kind: UpsKind) -> Loss:
    """The loss of an uninterruptible supply."""
    point = points()
    if kind == "none":
        return Loss(0.0, 0.0)
    if kind != "typical":
        return Loss(0.0, 1.0 / point[f"ups_{kind}_efficiency"] - 1.0)
    high = (point["ups_typical_low"] + point["ups_typical_high"]) / 2
    low = high - (point["ups_part_load_penalty_low"] + point["ups_part_load_penalty_high"]) / 2
    at_high, at_low = _HIGH_LOAD * (1 / high - 1), _LOW_LOAD * (1 / low - 1)
    share = (at_high - at_low) / (_HIGH_LOAD - _LOW_LOAD)
    return Loss(at_high - share * _HIGH_LOAD, share)


@cache
def points() -> Mapping[str, float]:
    """The published points."""
    return {row["point"]: float(row["value"]) for row in rows("power_chain.csv")}
