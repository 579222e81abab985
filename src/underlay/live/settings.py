"""The settings a user can write, with defaults: one strict tree, printed by ``underlay config show``.

Precedence: flags, then environment (``UNDERLAY_PUBLIC__PORT=9000``), then the file (``underlay.yaml``), then
these defaults. A new setting needs a reason; there is no second way to set one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from underlay.control.power_caps import FLOOR_SHARE
from underlay.documents.desk import AccountSettings, DeskSection, LimitSettings, PriceSettings
from underlay.documents.sections import Count, Seconds, Section

Port = Annotated[int, Field(ge=0, le=65535)]


class PublicSettings(Section):
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


class ConsoleSettings(Section):
    """The listener of pages, admin API, journeys and metrics."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(8081, description="port; 0 takes a free one")


class EngineSettings(Section):
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


class ModelSettings(Section):
    """A model that callers can name."""

    name: str = Field("gemma-3-270m", min_length=1, description="what callers call it")
    context_tokens: Count = Field(4096, description="prompt and answer together, per request")
    engine: EngineSettings = EngineSettings()
    price: PriceSettings = PriceSettings()


class RedfishSettings(Section):
    """The management controller that is asked for the host's power; none is unless it is named here."""

    url: str | None = Field(
        None,
        description="https://ADDRESS of the controller, or of the resource that tells the power; none: not asked",
    )
    user: str | None = Field(None, description="whom to log in as; one who may only read will do")
    password_file: Path | None = Field(None, description="a file with the password alone")
    insecure: bool = Field(False, description="take any certificate, and plain http")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        odd = parts.scheme not in ("https", "http") or not parts.hostname or parts.port == 0
        if odd or parts.username is not None or parts.query or parts.fragment:
            raise ValueError("write https://ADDRESS; the user is a setting of its own")
        return url

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        if self.url is not None and not self.insecure and not self.url.lower().startswith("https:"):
            raise ValueError("the password would cross the network in the clear: use https, or set insecure")
        return self


class IpmiSettings(Section):
    """The management controller over IPMI, asked by the program ipmitool: for one that does not speak Redfish.

    Without a host it is this machine's own, through the kernel's driver (/dev/ipmi0).
    """

    mode: Literal["off", "auto"] = Field("off", description="auto: ask it; not together with meters.redfish.url")
    host: str | None = Field(None, min_length=1, description="its address on the network; none: this machine's own")
    user: str | None = Field(None, min_length=1, description="whom to log in as; one who may only read will do")
    password_file: Path | None = Field(
        None, description="a file with the password alone, at most 20 bytes as IPMI has it"
    )

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        login = (self.user, self.password_file)
        if self.host is not None and None in login:
            raise ValueError("a controller at an address wants a user and a password_file")
        if self.host is None and login != (None, None):
            raise ValueError("user and password_file are for a host; this machine's own controller asks for none")
        return self


#: What each way of sharing the joules of a step does (``ledger.policies``).
SHARING = {
    "shapley": "what a step takes anyway equally, the rest to its cause",
    "marginal_only": "all of it as what each adds",
    "time_share": "the time of a step equally",
    "token_share": "by tokens, one read like one generated",
}


class MeterSettings(Section):
    """The meters of this machine's energy; ``underlay doctor`` says which there are."""

    every_ms: Annotated[int, Field(ge=50, le=60_000)] = Field(250, description="pause between two readings")
    nvml: Literal["auto", "off"] = Field("auto", description="NVIDIA accelerators; needs the extra nvidia")
    rapl: Literal["auto", "off"] = Field("auto", description="energy counters of the processors")
    sharing: Literal["shapley", "marginal_only", "time_share", "token_share"] = Field(
        "shapley",
        description="how requests that run together share joules: "
        + "; ".join(f"{name}: {what}" for name, what in SHARING.items()),
    )
    redfish: RedfishSettings = RedfishSettings()
    ipmi: IpmiSettings = IpmiSettings()

    @model_validator(mode="after")
    def _asks_one_way(self) -> Self:
        if self.redfish.url is not None and self.ipmi.mode != "off":
            raise ValueError("redfish.url and ipmi ask for the same power: set one of them")
        return self


class PowerCapSettings(Section):
    """Caps on what NVIDIA accelerators draw, as tight as the service allows; needs root, and meters.nvml."""

    mode: Literal["off", "slo"] = Field(
        "off", description="slo: tighten while times are well within their objectives, give up when they are not"
    )
    slo_ttft_s: Seconds = Field(2.0, description="99 % of first tokens come sooner")
    slo_tpot_ms: Annotated[float, Field(gt=0)] = Field(
        100.0, description="99 % of answers take less for each token after it, on average (ITL)"
    )
    floor_share: Annotated[float, Field(gt=0, le=1)] = Field(
        FLOOR_SHARE, description="never less than this share of the limit that was set before"
    )
    every_s: Annotated[float, Field(ge=1)] = Field(10.0, description="time between two plans")


class SiteSettings(Section):
    """Where this machine stands and what it costs: what grams, millilitres and money are reckoned from.

    What is not said and not published is told of no request; it is not taken for nothing.
    """

    name: str = Field("local", min_length=1, description="what the ledger calls this place")
    region: str | None = Field(
        None, description="a provider's region (azure/westeurope) whose grid, PUE and water are taken"
    )
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = Field(
        None, description="or the country whose grid is taken, by two letters; neither: the world's mean, assumed"
    )
    pue: Annotated[float, Field(ge=1)] | None = Field(None, description="instead of the region's")
    carbon_g_per_kwh: Annotated[float, Field(ge=0)] | None = Field(None, description="instead of the grid's mean")
    market_carbon_g_per_kwh: Annotated[float, Field(ge=0)] | None = Field(
        None, description="by contracts and certificates, if there are any"
    )
    carbon_by_hour: Annotated[tuple[float, ...], Field(min_length=24, max_length=24)] | None = Field(
        None, description="g/kWh of each hour of the day, UTC, where they are known"
    )
    usd_per_kwh: Annotated[float, Field(ge=0)] | None = Field(None, description="price of electricity")
    usd_by_hour: Annotated[tuple[float, ...], Field(min_length=24, max_length=24)] | None = Field(
        None, description="price of each hour of the day, UTC, where it changes"
    )
    accelerator: str | None = Field(
        None, description="what the models run on, by the catalogue's id; none: processors, embodied carbon unknown"
    )
    accelerators: Count = Field(1, description="how many of them this machine has")
    usd_per_accelerator_hour: Annotated[float, Field(ge=0)] | None = Field(
        None, description="what one costs an hour; none: purchase_usd written off, or published prices"
    )
    purchase_usd: Annotated[float, Field(ge=0)] | None = Field(
        None, description="what one was bought for, its part of the host included"
    )
    life_months: Count = Field(48, description="how long what was bought is used")


class LogSettings(Section):
    """Logs, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe that is shown")
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")


class Settings(Section):
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
    meters: MeterSettings = MeterSettings()
    power_caps: PowerCapSettings = PowerCapSettings()
    site: SiteSettings = SiteSettings()
    log: LogSettings = LogSettings()
