"""What is made to befall the world of a scenario. Surges are set in crowds, failures by chance in ``world``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from underlay.documents.sections import Section, Share
from underlay.twin.scenario.values import Moment, Span

Slower = Annotated[float, Field(ge=1, le=1e6)]
Loss = Annotated[float, Field(ge=0, le=0.99)]


class _Fault(Section):
    """What all faults have."""

    at: Moment = Field(description="when it begins")
    lasts: Span | None = Field(None, description="how long; none: until the end")


class _OfPlace(_Fault):
    where: str = Field(description="which place: west, or west/site/hall/r1")


class _OfReplicas(_Fault):
    where: str = Field(description="which replicas: those in a place (west), or of a name (chat-west-*)")
    share: Share = Field(1.0, description="part of them, chosen by chance; at least one")


class ShortageSection(_OfPlace):
    """Nothing can be started there: no accelerators are to be had."""

    kind: Literal["shortage"] = Field("shortage", description="which fault")


class OutageSection(_OfPlace):
    """Everything there is gone, and comes back cold."""

    kind: Literal["outage"] = Field("outage", description="which fault")


class PowerSection(_OfPlace):
    """Part of the power that feeds a place is gone."""

    kind: Literal["power"] = Field("power", description="which fault")
    left: Share = Field(0.0, description="part of it that is left")


class CoolingSection(_OfPlace):
    """Part of the cooling of a place is gone."""

    kind: Literal["cooling"] = Field("cooling", description="which fault")
    left: Share = Field(0.0, description="part of it that is left")


class CongestionSection(_Fault):
    """A link carries less, takes longer or loses packets."""

    kind: Literal["congestion"] = Field("congestion", description="which fault")
    where: str = Field(
        description="which link: a place and the link's name, as west/wan; between two regions: east~west"
    )
    left: Share = Field(1.0, description="part of what it carries that is left")
    added: Moment = Field(0.0, description="how much longer it takes")
    loss: Loss = Field(0.0, description="part of the packets that is lost")


class DeploymentSection(_OfReplicas):
    """A bad version, until it is rolled back."""

    kind: Literal["deployment"] = Field("deployment", description="which fault")
    slower: Slower = Field(1.0, description="times as long for every step")
    failing: Share = Field(0.0, description="part of the requests that fails in it")
    crash_after: Span | None = Field(
        None, description="time until it crashes, and does so at every start; none: never"
    )


class SlowSection(_OfReplicas):
    """Replicas that are slow without anybody being told."""

    kind: Literal["slow"] = Field("slow", description="which fault")
    slower: Slower = Field(2.0, description="times as long for every step")


class StuckSection(_OfReplicas):
    """Replicas that look alive, but nothing comes of what they are given."""

    kind: Literal["stuck"] = Field("stuck", description="which fault")


class CrashSection(_OfReplicas):
    """Replicas that end; they are started again."""

    kind: Literal["crash"] = Field("crash", description="which fault")


FaultSection = Annotated[
    ShortageSection
    | OutageSection
    | PowerSection
    | CoolingSection
    | CongestionSection
    | DeploymentSection
    | SlowSection
    | StuckSection
    | CrashSection,
    Field(discriminator="kind"),
]
