"""One scenario: a world, what is served in it, who asks, by which policies, and what befalls it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from underlay.documents.draft import Draft
from underlay.documents.sections import Section
from underlay.twin.scenario.crowds import CrowdSection
from underlay.twin.scenario.faults import FaultSection
from underlay.twin.scenario.policies import PoliciesSection
from underlay.twin.scenario.report import ReportSection, SloSection
from underlay.twin.scenario.served import ModelSection
from underlay.twin.scenario.values import Span
from underlay.twin.scenario.world import WorldSection


class Scenario(Section):
    """Everything a run depends on. Times in seconds, whatever unit they were written in."""

    name: str = Field("", max_length=100, description="what reports call it; none: the file's name")
    about: str = Field("", description="what it is meant to show")
    duration: Span = Field(600.0, description="how much time is simulated")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="loads every dice; equal seeds give equal runs")
    level: Literal["requests", "fluid"] = Field(
        "requests", description="requests: each one by itself; fluid: flows, for worlds too large for that"
    )
    slo: SloSection = SloSection()
    world: WorldSection = WorldSection()
    models: tuple[ModelSection, ...] = Field((ModelSection(),), min_length=1, description="what is served")
    crowds: tuple[CrowdSection, ...] = Field(min_length=1, description="who asks")
    policies: PoliciesSection = PoliciesSection()
    faults: tuple[FaultSection, ...] = Field((), description="what befalls the world, and when")
    report: ReportSection = ReportSection()
    sweep: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="settings to try several values of: {policies.routing: [sticky, random]}; several make a grid",
    )
    _draft: Draft[Scenario] | None = PrivateAttr(None)
