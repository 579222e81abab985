"""The settings a user can write, with defaults: one strict tree, printed by ``underlay config show``.

Precedence: flags, then environment (``UNDERLAY_PUBLIC__PORT=9000``), then the file (``underlay.yaml``), then
these defaults. A new setting needs a reason; there is no second way to set one.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
#: What 64 bits hold in pico-dollars, roughly; records and journals carry no more.
USD_MAX = 9_000_000
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class PublicSettings(_Section):
    """The listener of the generation APIs, and its limits on strangers."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(8080, description="port; 0 takes a free one")
    header_bytes_max: Count = Field(65_536, description="longest header block")
    body_bytes_max: Count = Field(33_554_432, description="longest body (32 MiB, what SDKs may send)")
    header_timeout_s: Seconds = Field(10, description="time for a whole header block to arrive")
    body_timeout_s: Seconds = Field(60, description="time for a whole body to arrive")
    idle_timeout_s: Seconds = Field(75, description="time an idle kept-alive connection is left open")
    connections_max: Count = Field(4096, description="open connections; more are answered 503")
    connections_per_address_max: Count = Field(2048, description="open connections from one address")
    unread_bytes_max: Count = Field(1_048_576, description="reply bytes a slow reader may leave unread")
    unread_timeout_s: Seconds = Field(30, description="time a slow reader may read nothing before it is cut")
    hold_headers_s: Seconds = Field(5, description="longest wait for a first token before headers are sent")
    keepalive_s: Seconds = Field(10, description="silence in a stream after which a blank line is sent")
    drain_s: Seconds = Field(120, description="time open streams get to finish after SIGTERM")


class ConsoleSettings(_Section):
    """The listener of pages, admin API, journeys and metrics."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(8081, description="port; 0 takes a free one")


class PriceSettings(_Section):
    """US dollars per million tokens."""

    prompt_usd_per_mtok: Decimal = Field(Decimal("0.05"), ge=0, description="prompt tokens computed afresh")
    cached_usd_per_mtok: Decimal = Field(Decimal("0.0125"), ge=0, description="prompt tokens from a cache")
    completion_usd_per_mtok: Decimal = Field(Decimal("0.20"), ge=0, description="generated tokens")


class EngineSettings(_Section):
    """What serves a model."""

    kind: Literal["llamacpp", "openai"] = Field(
        "llamacpp", description="llamacpp: started here unless it has addresses; openai: reached by address"
    )
    path: Path | None = Field(None, description="a GGUF file; none: the bundled Gemma 3 270M")
    replicas: Count = Field(2, description="how many engine processes")
    slots: Count = Field(4, description="requests one replica works on at a time")
    threads: Count | None = Field(None, description="CPU threads of one replica; none: the cores shared out")
    template: Literal["transcript", "model"] | None = Field(
        None, description="transcript: for base models; model: the GGUF's own; none: by the model"
    )
    embeddings: bool = Field(False, description="serve embeddings (such a replica generates no text)")
    addresses: tuple[str, ...] = Field((), description="base URLs of running servers, one replica each")
    upstream_model: str | None = Field(None, description="kind openai: the name the server knows it by")
    api_key_env: str | None = Field(None, description="kind openai: environment variable with its key")
    cache_salt: bool = Field(
        default=True, description="kind openai: keep tenants apart in its prefix cache (vLLM's cache_salt)"
    )
    startup_timeout_s: Seconds = Field(120, description="time to become ready before it is restarted")
    probe_s: Seconds = Field(1.0, description="pause between health probes")
    probe_strikes: Count = Field(3, description="failed probes, or probes without progress, that lose it")
    stall_s: Seconds = Field(30, description="silence in mid-stream after which another replica takes over")


class ModelSettings(_Section):
    """A model that callers can name."""

    name: str = Field("gemma-3-270m", min_length=1, description="what callers call it")
    context_tokens: Count = Field(4096, description="prompt and answer together, per request")
    engine: EngineSettings = EngineSettings()
    price: PriceSettings = PriceSettings()


class LimitSettings(_Section):
    """Limits of a key that has none of its own, or of an account; none: unlimited."""

    requests_per_minute: Count | None = Field(None, description="requests per minute")
    tokens_per_minute: Count | None = Field(None, description="prompt and completion tokens per minute")
    concurrent: Count | None = Field(None, description="open requests at a time")


class BudgetSettings(_Section):
    """What an account may use in each period of the UTC calendar, in money, tokens or both."""

    usd: Annotated[Decimal, Field(gt=0, le=USD_MAX, decimal_places=12)] | None = Field(
        None, description="US dollars"
    )
    tokens: Count | None = Field(None, description="prompt and completion tokens")
    per: Literal["day", "week", "month", "total"] = Field(
        description="when it begins anew: at midnight, on Mondays, on the first, never"
    )


class AccountSettings(_Section):
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


class BandSettings(_Section):
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


class DeskSection(_Section):
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


class LogSettings(_Section):
    """Logs, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe that is shown")
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")


class Settings(_Section):
    """Everything."""

    data_dir: Path = Field(
        default=Path("~/.local/share/underlay"), description="keys, ledger, journal and model weights"
    )
    public: PublicSettings = PublicSettings()
    console: ConsoleSettings = ConsoleSettings()
    models: tuple[ModelSettings, ...] = Field((ModelSettings(),), min_length=1, description="what is served")
    limits: LimitSettings = LimitSettings()
    accounts: tuple[AccountSettings, ...] = Field((), description="limits and budgets of tenants, users and models")
    desk: DeskSection = DeskSection()
    log: LogSettings = LogSettings()
