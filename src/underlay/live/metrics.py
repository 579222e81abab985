"""What Prometheus is told. Labels are models, dialects, replicas and reasons, never tenants or keys.

``underlay_*`` are the platform's own, in base units; ``vllm:*`` are the three gauges by which autoscalers and
the Gateway API inference extension know an engine. Buckets are those of OpenTelemetry's GenAI conventions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from underlay.domain.views import Journey, PlatformRow, ReplicaRow
from underlay.live.meters.track import Total

if TYPE_CHECKING:
    from underlay.live.energy.accounting import EnergyAccounts

_DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_TPOT_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)


class Metrics:
    """All metrics of one platform, in a registry of their own."""

    def __init__(self, version: str, models: Iterable[str]) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._models = frozenset(models)
        Gauge("underlay_build_info", "Version of Underlay", ["version"], registry=registry).labels(version).set(1)
        labels = ["model", "dialect", "operation", "outcome", "status"]
        self._requests = Counter("underlay_requests", "Requests that are over", labels, registry=registry)
        self._refusals = Counter(
            "underlay_refusals", "Requests not served, by reason", ["reason"], registry=registry
        )
        self._attempts = Counter("underlay_attempts", "Times a replica was asked", ["model"], registry=registry)
        self._resumed = Counter(
            "underlay_requests_retried", "Requests that needed more than one replica", ["model"], registry=registry
        )
        self._tokens = Counter("underlay_tokens", "Tokens by kind", ["model", "kind"], registry=registry)
        self._duration = Histogram(
            "underlay_request_duration_seconds",
            "From first byte to the end",
            ["model", "operation"],
            buckets=_DURATION_S,
            registry=registry,
        )
        self._ttft = Histogram(
            "underlay_time_to_first_token_seconds",
            "From first byte to first token",
            ["model"],
            buckets=_TTFT_S,
            registry=registry,
        )
        self._tpot = Histogram(
            "underlay_time_per_output_token_seconds",
            "Mean time of a token after the first",
            ["model"],
            buckets=_TPOT_S,
            registry=registry,
        )
        self._open = Gauge("underlay_requests_open", "Requests being answered", registry=registry)
        self._waiting = Gauge("underlay_requests_waiting", "Requests waiting for a replica", registry=registry)
        self._ready = Gauge("underlay_ready", "1 if a prompt would be let in now", registry=registry)
        self._up = Gauge(
            "underlay_replica_up", "1 if the replica is ready", ["replica", "model"], registry=registry
        )
        self._load = Gauge("underlay_replica_load", "Strands leased on it", ["replica", "model"], registry=registry)
        self._restarts = Gauge(
            "underlay_replica_restarts", "Restarts of it", ["replica", "model"], registry=registry
        )
        self._memory = Gauge(
            "underlay_replica_resident_memory_bytes",
            "Memory of its process",
            ["replica", "model"],
            registry=registry,
        )
        self._expected = Counter(
            "underlay_prefix_tokens_expected",
            "Prompt tokens expected in caches when routed",
            ["model"],
            registry=registry,
        )
        self._cached = Counter(
            "underlay_prefix_tokens_cached", "Prompt tokens found in caches of those", ["model"], registry=registry
        )
        self._hits: dict[str, tuple[int, int]] = {}
        self._running = Gauge("vllm:num_requests_running", "Running on engines", ["model_name"], registry=registry)
        self._queued = Gauge("vllm:num_requests_waiting", "Waiting in engines", ["model_name"], registry=registry)
        self.journal_bytes = Gauge("underlay_journal_bytes", "Journal written by this run", registry=registry)
        self.store_lag = Gauge("underlay_store_waiting_records", "Records not yet stored", registry=registry)

    def count(self, journey: Journey) -> None:
        """Count a request that is over."""
        # Callers can write any name: only names of our own models become labels.
        model = journey.model if journey.model in self._models else "other"
        self._requests.labels(model, journey.dialect, journey.operation, journey.outcome, str(journey.status)).inc()
        if journey.outcome in ("refused", "failed"):
            self._refusals.labels(journey.reason or "unknown").inc()
        if journey.attempts:
            self._attempts.labels(model).inc(journey.attempts)
        if journey.attempts > 1:
            self._resumed.labels(model).inc()
        self._count_tokens(journey, model)
        self._time(journey, model)

    def _count_tokens(self, journey: Journey, model: str) -> None:
        usage = journey.usage
        for kind, tokens in (
            ("prompt", usage.prompt_tokens - usage.cached_tokens),
            ("cached", usage.cached_tokens),
            ("generated", usage.completion_tokens),
        ):
            if tokens > 0:
                self._tokens.labels(model, kind).inc(tokens)

    def _time(self, journey: Journey, model: str) -> None:
        if journey.outcome == "finished":
            self._duration.labels(model, journey.operation).observe(journey.duration_ms / 1e3)
        if journey.ttft_ms is None:
            return
        self._ttft.labels(model).observe(journey.ttft_ms / 1e3)
        after_first = journey.usage.completion_tokens - 1
        if after_first > 0:
            self._tpot.labels(model).observe((journey.duration_ms - journey.ttft_ms) / 1e3 / after_first)

    def predicted(self, hits: Mapping[str, tuple[int, int]]) -> None:
        """Take over what was expected in the replicas' caches and what was found, by model, since the start."""
        for model, (expected, cached) in hits.items():
            expected_before, cached_before = self._hits.get(model, (0, 0))
            self._expected.labels(model).inc(expected - expected_before)
            self._cached.labels(model).inc(cached - cached_before)
        self._hits.update(hits)

    def add_meters(self, totals: Callable[[], Iterable[Total]]) -> None:
        """Show what the meters of energy have counted, asked at each look."""
        self.registry.register(_Energy(totals))

    def add_energy(self, accounts: EnergyAccounts) -> None:
        """Show whose the metered joules were, asked at each look."""
        self.registry.register(_Accounts(accounts))

    def render(self, platform: PlatformRow, replicas: list[ReplicaRow]) -> tuple[bytes, str]:
        """All metrics as text, with the gauges brought up to date, and their content type."""
        self._open.set(platform.open_requests)
        self._waiting.set(platform.waiting)
        self._ready.set(platform.ready)
        for row in replicas:
            names = (row.name, row.model)
            self._up.labels(*names).set(row.state == "ready")
            self._load.labels(*names).set(row.load)
            self._restarts.labels(*names).set(row.restarts)
            if row.resident_mb is not None:
                self._memory.labels(*names).set(row.resident_mb * 1e6)
        for model in self._models:
            mine = [row.gauges for row in replicas if row.model == model]
            self._running.labels(model).set(sum(g.get("requests_processing", 0) for g in mine))
            self._queued.labels(model).set(sum(g.get("requests_deferred", 0) for g in mine))
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _Energy(Collector):
    """Joules by meter. A sum over all of them counts twice where one boundary's path begins with another's."""

    def __init__(self, totals: Callable[[], Iterable[Total]]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Tell joules, losses and whether each meter can be read."""
        labels = ["meter", "boundary", "method"]
        joules = CounterMetricFamily("underlay_energy_joules", "Metered, or else modelled", labels=labels)
        gaps = CounterMetricFamily("underlay_meter_gaps", "Times it fell silent or lost its count", labels=labels)
        reads = GaugeMetricFamily("underlay_meter_up", "1 if the meter can be read", labels=labels)
        for total in self._totals():
            names = [total.meter.id, total.meter.boundary.place, total.meter.method]
            joules.add_metric(names, total.joules)
            gaps.add_metric(names, total.gaps)
            reads.add_metric(names, total.reads)
        yield from (joules, gaps, reads)


class _Accounts(Collector):
    """Joules by account, of what is settled; with those of open requests, all that the host's meters counted."""

    def __init__(self, accounts: EnergyAccounts) -> None:
        self._accounts = accounts

    def collect(self) -> Iterator[Metric]:
        """Tell joules by account and method, what they made, and what is not settled or was not metered."""
        labels = ["account", "method"]
        joules = CounterMetricFamily("underlay_energy_account_joules", "Whose joules they were", labels=labels)
        for (account, method), value in sorted(self._accounts.totals().items()):
            joules.add_metric([account, method], value)
        yield joules
        yield GaugeMetricFamily(
            "underlay_energy_open_joules", "Of requests not settled yet", value=self._accounts.open_joules
        )
        yield CounterMetricFamily(
            "underlay_energy_unmetered_seconds", "The host was not metered", value=self._accounts.gap_s
        )
        yield from self._made()

    def _made(self) -> Iterator[Metric]:
        """Grams, millilitres and money by model, under no name what is no request's; and the model's error."""
        sums = self._accounts.sums
        yield CounterMetricFamily("underlay_energy_metered_joules", "Counted for the host", value=sums.metered_j)
        yield CounterMetricFamily(
            "underlay_energy_overhead_joules", "Power and cooling, on top of the meters", value=sums.overhead_j
        )
        grams = CounterMetricFamily("underlay_carbon_grams", "CO2e by location", labels=["model"])
        for model, value in sorted(sums.grams.items()):
            grams.add_metric([model], value)
        water = CounterMetricFamily("underlay_water_millilitres", "Water by place", labels=["model", "place"])
        for names, value in sorted(sums.millilitres.items()):
            water.add_metric(names, value)
        usd = CounterMetricFamily("underlay_infrastructure_usd", "What it cost us", labels=["model", "part"])
        for names, value in sorted(sums.usd.items()):
            usd.add_metric(names, value)
        yield from (grams, water, usd)
        if sums.rescale is not None:
            help_text = "Busy joules of the last window, metered over modelled: the error of the step model"
            yield GaugeMetricFamily("underlay_energy_model_ratio", help_text, value=sums.rescale)
