"""The policies of a scenario: what live settings call ``desk``, and what lies above one region's desk."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from underlay.documents.desk import AccountSettings, DeskSection, LimitSettings
from underlay.twin.scenario.values import Span

RegionChoice = Literal["nearest", "spill", "cheapest", "greenest"]


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
    limits: LimitSettings = LimitSettings()
    accounts: tuple[AccountSettings, ...] = Field(
        (), description="limits, budgets and weights of tenants and models"
    )
