"""Does a prompt take in the twin what was published for one, and in the same places?

Published (arXiv 2508.15734, May 2025): the median Gemini Apps text prompt took 0.24 Wh: active accelerators 0.14,
active hosts 0.06, idle provisioned machines 0.02, overhead 0.02 (58, 25, 10 and 8 %; PUE 1.09). In a narrow
boundary, accelerators of the best data centres, it was 0.10 Wh. The range of an honest model lies between the two
boundaries: 0.10 to 0.14 Wh on accelerators, 0.10 to 0.24 Wh of everything; its shares within ten points of the
published ones, which are rounded and of one fleet. PUE: 1.09 (Google's fleet) to 1.54 (mean of Uptime's survey of
2025), with large new builds at 1.3 or below.

The twin's: the scenario ``one-site`` as it ships (Llama 3.1 70B on H100, prompts of Azure's trace of 2023, a region
of Azure, one server of nine spare), and the same in a region of Google; five minutes of each of ``YEAR``, added up,
as what was published is no single evening's. Not Google's model, prompts or accelerators.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from harness import Figures

from underlay.physics import grid
from underlay.twin import simulation
from underlay.twin.ledger.breakdown import Breakdown, breakdown, median_prompt
from underlay.twin.records import RunResult
from underlay.twin.scenario import read

PUBLISHED = {"accelerators": 0.58, "host": 0.25, "idle": 0.10, "overhead": 0.08}
NARROW_WH, ACCELERATORS_WH, COMPREHENSIVE_WH = 0.10, 0.14, 0.24
POINTS = 0.10
PUE_LEAST, PUE_NEW, PUE_MEAN = 1.09, 1.3, 1.54
LIKE = {"one-site": "azure/eastus", "one-site, Google's region": "gcp/us-central1"}
#: Days and hours (UTC) that stand for a year: seasons, and opposite hours of the day.
YEAR = [(day, hour) for day in (15, 105, 196, 288) for hour in (3.0, 15.0)]
EACH_S = 300.0
YEAR_OFF = 0.05
_JOULES_WH = 3600.0


class Prompt(NamedTuple):
    """What runs say of their prompts: shares, the median's watt-hours narrow and whole, and the PUE."""

    shares: dict[str, float]
    narrow_wh: float
    whole_wh: float
    pue: float


def prompt(results: Sequence[RunResult]) -> Prompt:
    """The figures of runs that followed their requests: sums of their energy, and the mean of their medians."""
    parts, medians, fed_j, it_j = [], [], 0.0, 0.0
    for result in results:
        assert result.ledger is not None
        parts.append(breakdown(result.ledger))
        medians.append(median_prompt(result.ledger))
        totals = {account.name: account.value for account in result.accounts if not account.place}
        fed_j, it_j = fed_j + totals["energy_feeder"], it_j + totals["energy_it"]
    whole = Breakdown(*(sum(part) for part in zip(*parts, strict=True)))
    narrow_j, whole_j = (fmean(median) for median in zip(*medians, strict=True))
    return Prompt(whole.shares(), narrow_j / _JOULES_WH, whole_j / _JOULES_WH, fed_j / it_j)


def year(like: str) -> Prompt:
    """The scenario in a provider's region over days and hours of a year."""
    return prompt(
        [
            simulation.run(
                read(
                    "one-site",
                    {
                        "duration": EACH_S,
                        "world.day_of_year": day,
                        "world.start_utc_h": hour,
                        "world.regions.east.like": like,
                    },
                ),
                0,
            )
            for day, hour in YEAR
        ]
    )


def breakdowns(figures: Figures) -> None:
    """The scenario as it ships, and in a region of Google."""
    for name, like in LIKE.items():
        found, published = year(like), grid.region(like).pue
        assert published is not None
        for part, share in found.shares.items():
            how = f"{share:.1%} here, {PUBLISHED[part]:.0%} published"
            off = 100 * abs(share - PUBLISHED[part])
            figures.add(f"{name}: share of {part}, points off", off, "points", at_most=100 * POINTS, how=how)
        how = f"published: {NARROW_WH} (narrow) to {ACCELERATORS_WH} Wh (of the comprehensive boundary)"
        figures.add(f"{name}: accelerators, median", found.narrow_wh, "Wh", at_most=ACCELERATORS_WH, how=how)
        how = f"at least {NARROW_WH} Wh, the narrow boundary"
        figures.add(f"{name}: accelerators, median (floor)", found.narrow_wh, "Wh", at_least=NARROW_WH, how=how)
        how = f"published: {COMPREHENSIVE_WH} Wh at a PUE of {PUE_LEAST}"
        figures.add(f"{name}: everything, median", found.whole_wh, "Wh", at_most=COMPREHENSIVE_WH, how=how)
        how = f"published: {PUE_LEAST} (Google's fleet) to {PUE_MEAN} (Uptime 2025)"
        figures.add(f"{name}: PUE over the year", found.pue, "ratio", at_most=PUE_MEAN, aim=PUE_NEW, how=how)
        figures.add(f"{name}: PUE over the year (floor)", found.pue, "ratio", at_least=PUE_LEAST, how=how)
        how = f"{published} published; cooling is scaled to it at 0.7 of the load, the chain is not"
        off = abs(found.pue - published)
        figures.add(f"{name}: PUE over the year, off that of its region", off, "", at_most=YEAR_OFF, how=how)
