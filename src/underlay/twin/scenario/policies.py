"""The policies of a scenario: what live settings call ``desk``, and what lies above one region's desk."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from underlay.control.power_caps import FLOOR_SHARE
from underlay.documents.desk import AccountSettings, DeskSection, LimitSettings
from underlay.documents.sections import Section
from underlay.twin.scenario.values import Span

RegionChoice = Literal["nearest", "spill", "cheapest", "greenest"]


class PowerCapSection(Section):
    """Caps on what accelerators draw, as tight as the service allows (``control.power_caps``)."""

    mode: Literal["none", "slo"] = Field(
        "none", description="slo: tighten while times are well within their objectives, give up when they are not"
    )
    slo_ttft: Span | None = Field(None, description="to the first token; none: as in the scenario's slo")
    slo_tpot: Span | None = Field(None, description="per token after it; none: as in the scenario's slo")
    floor: Annotated[float, Field(gt=0, le=1)] = Field(
        FLOOR_SHARE, description="never less than this share of the rated power"
    )
    every: Span = Field(10.0, description="time between two plans")


class PoliciesSection(DeskSection):
    """How every region's desk decides (as in ``desk`` of the settings), and which region is asked."""

    region_choice: RegionChoice = Field(
        "nearest",
        description="which region a call goes to: the nearest that is up; spill: the next one while the nearest is"
        " busy; cheapest or greenest: by the price or the carbon of its electricity",
    )
    region_rtt_max: Span = Field(
        0.25, description="regions farther away than this are not chosen while others are up"
    )
    deferral_moves: Literal["region", "time", "both"] = Field(
        "both", description="what deferral may change of work that can wait: where it runs, when, or both"
    )
    power_caps: PowerCapSection = PowerCapSection()
    limits: LimitSettings = LimitSettings()
    accounts: tuple[AccountSettings, ...] = Field(
        (), description="limits, budgets and weights of tenants and models"
    )
