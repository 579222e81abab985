"""How much carbon was emitted to make an accelerator and its part of a host, for each hour of its life?

Published for one: an H100 of 80 GB (164 kg, NVIDIA's product carbon footprint of HGX H100) in a host for eight
(5,700 kg without them, Boavizta's p5.48xlarge), both by way of EcoLogits. What a life is, two say: 36 months
(EcoLogits) and 72 (Azure's GreenSKU); the middle of both is taken, and the band is told. Nobody's figure is
carried over to another accelerator. Refused here: buildings, and what the machine draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from underlay.physics.tables import rows

HOURS_A_MONTH = 8766 / 12
#: What the table calls an accelerator and its host, and how many share that host.
_KNOWN = {"h100-sxm": ("h100-80gb", "8xH100-server-without-gpus", 8)}


class EmbodiedHour(NamedTuple):
    """Grams of CO2e for one accelerator and hour with its part of a host: middle, longest and shortest life."""

    grams: float
    least_g: float
    most_g: float
    source: str


def accelerator_hour(accelerator: str) -> EmbodiedHour | None:
    """The grams of an accelerator of the catalogue; None where nobody published them."""
    known = _KNOWN.get(accelerator)
    if known is None:
        return None
    part, host, shared_by = known
    grams = 1e3 * (components()[part] + components()[host] / shared_by)
    longest, shortest = components()["server-life"], components()["server-life-ecologits"]
    return EmbodiedHour(
        grams / ((longest + shortest) / 2 * HOURS_A_MONTH),
        grams / (longest * HOURS_A_MONTH),
        grams / (shortest * HOURS_A_MONTH),
        "NVIDIA HGX H100 PCF and Boavizta p5.48xlarge, via EcoLogits; lives: EcoLogits, Azure GreenSKU",
    )


@cache
def components() -> Mapping[str, float]:
    """The table, in kg of CO2e and months."""
    return {row["component"]: float(row["value"]) for row in rows("embodied.csv")}
