"""What a scenario promises its callers, and what its report shows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from underlay.documents.sections import Section
from underlay.twin.scenario.values import Span


class SloSection(Section):
    """What counts as good service (goodput): finished within all of those that are given."""

    ttft: Span | None = Field(2.0, description="to the first token; none: does not count")
    tpot: Span | None = Field(0.1, description="mean time per token after the first; none: does not count")
    e2e: Span | None = Field(None, description="to the last token; none: does not count")


class ReportSection(Section):
    """What is written down about a run."""

    sample: Span = Field(10.0, description="time between two samples of the world")
    places: Literal["regions", "sites", "halls", "racks"] = Field(
        "regions", description="down to where energy is told in rows of their own, up to the feeder"
    )
    ledger: Literal["requests", "sites"] = Field(
        "sites",
        description="requests: what each took in joules, carbon, water and money, at level requests; sites: only"
        " what every site took, which is up to a quarter quicker",
    )
