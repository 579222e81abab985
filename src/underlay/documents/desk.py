"""The sections that decisions are made by: live settings and scenarios of the twin write them alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from underlay.documents.sections import Count, Seconds, Section, Share
from underlay.domain.joules import JOULES_MAX, joules
from underlay.domain.keys import Limits
from underlay.domain.policy import Account, Band, DeferralGoal, DeskSettings, ModelPolicy

#: What 64 bits hold in pico-dollars, roughly; records and journals carry no more.
USD_MAX = 9_000_000

_NUMBER = re.compile(r"[-+.0-9e]+", re.IGNORECASE)


def _joules(given: object) -> object:
    return joules(given) if isinstance(given, str) and not _NUMBER.fullmatch(given) else given


#: Joules as a plain number, or with a unit.
Joules = Annotated[float, Field(gt=0, le=JOULES_MAX), BeforeValidator(_joules, json_schema_input_type=float | str)]


class PriceSettings(Section):
    """US dollars per million tokens."""

    prompt_usd_per_mtok: Decimal = Field(Decimal("0.05"), ge=0, description="prompt tokens computed afresh")
    cached_usd_per_mtok: Decimal = Field(Decimal("0.0125"), ge=0, description="prompt tokens from a cache")
    completion_usd_per_mtok: Decimal = Field(Decimal("0.20"), ge=0, description="generated tokens")


class LimitSettings(Section):
    """Limits of a key that has none of its own, or of an account; none: unlimited."""

    requests_per_minute: Count | None = Field(None, description="requests per minute")
    tokens_per_minute: Count | None = Field(None, description="prompt and completion tokens per minute")
    concurrent: Count | None = Field(None, description="open requests at a time")


class BudgetSettings(Section):
    """What an account may use in each period of the UTC calendar, in money, tokens, joules or several of them."""

    usd: Annotated[Decimal, Field(gt=0, le=USD_MAX, decimal_places=12)] | None = Field(
        None, description="US dollars"
    )
    tokens: Count | None = Field(None, description="prompt and completion tokens")
    joules: Joules | None = Field(None, description="what meters say it took, such as 500000, 500kJ or 1kWh")
    per: Literal["day", "week", "month", "total"] = Field(
        description="when it begins anew: at midnight, on Mondays, on the first, never"
    )


class OwnPriceSettings(Section):
    """What a tenant pays for a model, in US dollars per million tokens; none: the model's own price."""

    model: str = Field(min_length=1, description="which model")
    prompt_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = Field(None, description="prompt tokens")
    cached_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = Field(
        None, description="prompt tokens from a cache"
    )
    completion_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = Field(None, description="generated tokens")


class AccountSettings(Section):
    """Limits, budgets and rank of everything under one name: a tenant, a user or a model."""

    tenant: str | None = Field(None, min_length=1, description="the tenant (team) that this is about")
    user: str | None = Field(None, min_length=1, description="or the user, as keys name theirs")
    model: str | None = Field(None, min_length=1, description="or the model")
    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="a tenant's part of a busy platform, by others'")
    band: str | None = Field(
        None, description="highest band its keys may ask for, where they have none of their own"
    )
    limits: LimitSettings = LimitSettings()
    budgets: tuple[BudgetSettings, ...] = Field((), description="what it may use per day, week, month or in total")
    prices: tuple[OwnPriceSettings, ...] = Field((), description="a tenant's own prices, instead of the models'")


class BandSettings(Section):
    """A class of urgency; bands are served in the order they are written in."""

    name: str = Field(min_length=1, description="what callers and keys call it")
    share: Share = Field(0.0, description="part of the work that is kept for it while higher ones are busy")
    patience: Annotated[float, Field(gt=0)] = Field(1.0, description="times wait_max_s and slo_ttft_s, for it")


_BANDS = (
    BandSettings(name="priority"),
    BandSettings(name="standard", share=0.2),
    BandSettings(name="batch", share=0.05, patience=10),
)

Routing = Literal[
    "sticky",
    "lmetric",
    "prefix",
    "session",
    "consistent_hash",
    "prequal",
    "two_choices",
    "least_requests",
    "round_robin",
    "random",
]


class DeskSection(Section):
    """How the desk decides."""

    strands_max: Count = Field(8, description="largest n")
    seed: int = Field(0, description="loads the dice of policies that throw some")
    routing: Routing = Field("sticky", description="which replica gets a request")
    warm_share: Share = Field(0.8, description="sticky: part of a prompt a replica must hold to count as warm")
    warm_penalty_s: Annotated[float, Field(ge=0)] = Field(
        1.0, description="sticky: how much later a warm replica's first token may come than another's"
    )
    explore_share: Share = Field(0.01, description="sticky: part of the requests that ignore warmth")
    index_tokens: Count = Field(131_072, description="prefix cache of a replica that does not say its size")
    bands: tuple[BandSettings, ...] = Field(_BANDS, min_length=1, description="classes of urgency, highest first")
    waiting_max: Annotated[int, Field(ge=0)] = Field(1024, description="requests that may wait; more are refused")
    wait_max_s: Seconds = Field(120, description="longest wait for a replica")
    slo_ttft_s: Seconds | None = Field(
        None, description="how soon a first token is worth having; none: within wait_max_s"
    )
    holdback_share: Share = Field(0.1, description="least part of the slots kept from greedy tenants; 0: none")
    adaptive: bool = Field(True, description="let measured latencies lower what a replica is given at a time")
    attempts_max: Count = Field(3, description="replicas one request may be given to")
    strikes_max: Count = Field(3, description="failures in a row that make a replica suspect")
    suspect_s: Seconds = Field(10, description="how long a suspect replica is left alone; twice that the next time")
    suspect_max_s: Seconds = Field(300, description="longest time a suspect replica is left alone")
    eject_share_max: Share = Field(0.5, description="part of a model's replicas that may be suspect at a time")
    slow_start_s: Annotated[float, Field(ge=0)] = Field(
        10, description="time a replica that comes back beside others takes to its full part"
    )
    retry_share: Share = Field(0.2, description="requests started afresh, as part of the first attempts in 10 s")
    hedge_share: Share = Field(
        0.0, description="requests asked of a second replica while the first is late; 0: none"
    )
    drain_s: Seconds = Field(120, description="time streams may stay on a replica that is being drained")
    deferral: DeferralGoal = Field(
        "none",
        description="what work that says it can wait (x-underlay-defer) is put off for: the carbon or the price"
        " of its electricity, hour by hour, or both",
    )
    deferral_margin_s: Annotated[float, Field(ge=0)] = Field(
        600, description="how long before it must begin such work begins at the latest"
    )
    carbon_usd_per_tonne: Annotated[float, Field(ge=0)] = Field(
        80, description="deferral both: what a tonne of CO2e counts as; near what the EU's allowances cost"
    )
    idempotency_s: Seconds = Field(86_400, description="how long an answer stands under its Idempotency-Key")
    idempotency_max: Count = Field(10_000, description="idempotency keys remembered")

    @field_validator("bands")
    @classmethod
    def _shares_fit(cls, bands: tuple[BandSettings, ...]) -> tuple[BandSettings, ...]:
        if sum(band.share for band in bands) > 1:
            raise ValueError("the shares of all bands together must not exceed 1")
        if len({band.name for band in bands}) < len(bands):
            raise ValueError("two bands have the same name")
        return bands


def desk_settings(
    desk: DeskSection, models: Iterable[ModelPolicy], accounts: Iterable[Account], limits: LimitSettings
) -> DeskSettings:
    """What the sections say, as the desk takes it."""
    return DeskSettings(
        models=tuple(models),
        accounts=tuple(accounts),
        default_limits=Limits(**limits.model_dump()),
        bands=tuple(Band(band.name, band.share, band.patience) for band in desk.bands),
        **{key: getattr(desk, key) for key in DeskSection.model_fields if key != "bands"},
    )
