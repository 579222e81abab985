"""What did a request take where nobody here has a meter: in the network, and in storage?

Told beside the meters' sum, never in it: whoever carries the bytes counts their joules too.

* The Internet between a caller and us: 0.007 kWh per GB (fixed lines, core and access, 2020; the trend of Aslan et
  al. 2018 as Coroama 2021 carries it on). It is an *average* share of what networks draw anyway; estimates lie 5
  to 26 times apart. What one more byte adds, the *marginal* figure, is near nothing and nobody published it: None.
* Flash outside the host that keeps weights: 5.6 W per TB, all the time (GreenSKU, Seagate Nytro 3530). What lies in
  accelerators, memory and drives of the host is in its meters already, as are cached prefixes: no engine here keeps
  any elsewhere.

Refused here: optics and switches inside a site, of which nothing says whose bytes they carry.
"""

from __future__ import annotations

from typing import Literal

from underlay.domain.figures import JOULES_KWH, Figure
from underlay.physics.host_power import parts

INTERNET_KWH_GB = 0.007
#: How far estimates lie apart (Coroama 2021): the figure may be off by all that lies between it and 26 times it.
INTERNET_SPREAD = 26.0

View = Literal["average", "marginal"]


def network(carried_bytes: float, view: View = "average") -> Figure | None:
    """The Internet's joules for so many bytes, both ways together; None for the marginal view."""
    if view == "marginal":
        return None
    joules = carried_bytes / 1e9 * INTERNET_KWH_GB * JOULES_KWH
    boundary = "Internet, fixed lines, average allocation"
    return Figure(joules, "J", "assumed", "", boundary, joules * (INTERNET_SPREAD - 1.0))


def storage(stored_bytes: float, held_s: float) -> Figure:
    """The joules of flash outside the host that held so many bytes for so long."""
    joules = stored_bytes / 1e12 * parts()["storage_tb"] * held_s
    return Figure(joules, "J", "modelled", "", "flash outside the host, average allocation")
