"""A platform made of sample data, for the console's tests."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from msgspec import structs

from underlay.console.views import LedgerGroup
from underlay.domain.answer import ModelCard, Usage
from underlay.domain.errors import NotFound
from underlay.domain.views import Hop, Journey, LedgerRow, PlatformRow, ReplicaRow

CONSOLE_KEY = "ul_local_key_of_the_sample"
NOW_S = 1_790_000_000.0


def journey(request_id: str, age_s: float = 0.0, **changes: object) -> Journey:
    fields: dict[str, object] = {
        "id": request_id,
        "at_s": NOW_S - age_s,
        "dialect": "openai",
        "operation": "chat",
        "model": "gemma-3-270m",
        "tenant": "local",
        "key_id": "key_local",
        "outcome": "finished",
        "status": 200,
        "usage": Usage(prompt_tokens=212, cached_tokens=160, completion_tokens=74),
        "money_usd": "0.0000194",
        "duration_ms": 1284.6,
        "ttft_ms": 148.2,
        "attempts": 1,
        "hops": (
            Hop("parse", 0.0, 0.18, "gateway", "OpenAI chat completions, streamed, 812 bytes", None),
            Hop("identity", 0.18, 0.04, "desk", "key_local of tenant local, not expired"),
            Hop("admission", 0.22, 0.06, "desk", "no limit on this key; 3 requests open, 1,024 may wait"),
            Hop("queue", 0.28, 41.5, "desk", "both replicas had all 4 slots taken"),
            Hop(
                "routing",
                41.8,
                0.05,
                "desk",
                "gemma-3-270m-1: 2 of 4 slots taken, 160 tokens of this prompt still cached; gemma-3-270m-0: 4 of 4",
            ),
            Hop("prefill", 41.9, 104.1, "gemma-3-270m-1", "52 tokens computed, 160 came from the prefix cache", 52),
            Hop("decode", 146.0, 1136.2, "gemma-3-270m-1", "65.1 tokens per second; ended by itself", 74),
            Hop("metering", 1282.3, 0.4, "desk", "212 prompt (160 cached) and 74 generated tokens", 286),
        ),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    return Journey(**(fields | changes))  # type: ignore[arg-type]


def refused(request_id: str, age_s: float) -> Journey:
    return journey(
        request_id,
        age_s,
        outcome="refused",
        status=429,
        reason="rate_limit_exceeded",
        usage=Usage(),
        money_usd="0",
        duration_ms=0.4,
        ttft_ms=None,
        attempts=0,
        hops=(
            Hop("parse", 0.0, 0.2, "gateway", "OpenAI chat completions, 301 bytes"),
            Hop("identity", 0.2, 0.05, "desk", "key_load of tenant load-test"),
            Hop("admission", 0.25, 0.1, "desk", "60 requests per minute are spent; the next is free in 1.2 s"),
        ),
        tenant="load-test",
        key_id="key_load",
    )


def resumed(request_id: str, age_s: float) -> Journey:
    return journey(
        request_id,
        age_s,
        dialect="anthropic",
        attempts=2,
        duration_ms=2210.0,
        ttft_ms=96.0,
        hops=(
            Hop("parse", 0.0, 0.2, "gateway", "Anthropic messages, streamed"),
            Hop("identity", 0.2, 0.05, "desk", "key_team of tenant research"),
            Hop("admission", 0.25, 0.05, "desk", "under every limit"),
            Hop("routing", 0.3, 0.05, "desk", "gemma-3-270m-0: nothing running there"),
            Hop("prefill", 0.4, 95.6, "gemma-3-270m-0", "212 tokens computed", 212),
            Hop("decode", 96.0, 640.0, "gemma-3-270m-0", "connection lost after 41 tokens", 41),
            Hop("routing", 737.0, 0.06, "desk", "gemma-3-270m-1: the only one left; resumes from token 41"),
            Hop("prefill", 738.0, 110.0, "gemma-3-270m-1", "prompt and 41 delivered tokens computed again", 253),
            Hop("decode", 848.0, 1360.0, "gemma-3-270m-1", "ended by itself", 33),
            Hop("metering", 2208.0, 0.4, "desk", "the second prefill is ours, not the caller's", 286),
        ),
        tenant="research",
        key_id="key_team",
    )


def replicas() -> list[ReplicaRow]:
    def row(name: str, state: str, load: int, restarts: int, why: str, pid: int | None) -> ReplicaRow:
        return ReplicaRow(
            name=name,
            model="gemma-3-270m",
            state=state,
            engine="llamacpp",
            address="http://127.0.0.1:40213",
            pid=pid,
            slots=4,
            load=load,
            restarts=restarts,
            served=1204,
            resident_mb=412.5 if pid else None,
            uptime_s=4021.0 if pid else 0.0,
            why=why,
            gauges={"tokens_per_s": 61.2, "kv_used_ratio": 0.31} if pid else {},
        )

    return [
        row("gemma-3-270m-0", "ready", 3, 0, "", 4012),
        row("gemma-3-270m-1", "ready", 1, 1, "restarted once after it was killed", 4077),
        row("gemma-3-270m-2", "starting", 0, 3, "weights are being read", 4101),
        row("gemma-3-270m-3", "lost", 0, 5, "3 probes without an answer; next try in 8 s", None),
    ]


@dataclass
class SampleViews:
    """Implements ``Views``; the tests turn its fields to see other states."""

    public: str = "http://127.0.0.1:8080"
    console: str = "http://127.0.0.1:8081"
    is_ready: bool = True
    reasons: list[str] = field(default_factory=lambda: ["2 of 4 replicas are ready"])
    cards: list[ModelCard] = field(default_factory=lambda: [ModelCard("gemma-3-270m", int(NOW_S), 4096)])
    stories: list[Journey] = field(
        default_factory=lambda: [
            journey("req_01newest", 4),
            refused("req_02refused", 9),
            resumed("req_03resumed", 31),
            *(journey(f"req_{n:02d}older", 60.0 * n) for n in range(4, 12)),
        ]
    )
    secrets: dict[str, str] = field(default_factory=lambda: {CONSOLE_KEY: "key_local"})
    handed: itertools.count[int] = field(default_factory=itertools.count)
    drained: list[tuple[str, bool]] = field(default_factory=list)

    def platform(self) -> PlatformRow:
        return PlatformRow(
            version="0.1.0",
            pid=4000,
            public_url=self.public,
            console_url=self.console,
            uptime_s=4025.0,
            open_requests=4,
            waiting=0 if self.is_ready else 2,
            ready=self.is_ready,
            models=tuple(card.id for card in self.cards),
            totals={"requests": 1240, "tokens": 88123, "money_usd": "0.0123"},
        )

    def replicas(self) -> list[ReplicaRow]:
        return replicas() if self.cards else []

    def drain(self, replica: str, *, drain: bool) -> ReplicaRow:
        for row in self.replicas():
            if row.name == replica:
                self.drained.append((replica, drain))
                return structs.replace(row, state="draining" if drain else "ready")
        raise NotFound("there is no such replica", param="replica")

    def journey(self, request_id: str) -> Journey | None:
        return next((story for story in self.stories if story.id == request_id), None)

    def journeys(self, limit: int, before: float | None) -> list[Journey]:
        return [story for story in self.stories if before is None or story.at_s < before][:limit]

    def ledger(self, group: LedgerGroup) -> list[LedgerRow]:
        usage = Usage(prompt_tokens=2120, cached_tokens=1600, completion_tokens=740)
        one = group == "request"
        return [
            LedgerRow(
                "req_01newest" if one else "",
                NOW_S,
                "local",
                "key_local",
                "gemma-3-270m",
                "finished",
                usage,
                194_000_000,
            )
        ]

    def ready(self) -> tuple[bool, list[str]]:
        return self.is_ready, self.reasons

    def metrics(self) -> tuple[bytes, str]:
        return b"# TYPE underlay_up gauge\nunderlay_up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    def models(self) -> list[ModelCard]:
        return self.cards

    def public_url(self) -> str:
        return self.public

    def authorised(self, secret: str) -> str | None:
        return self.secrets.get(secret)

    def session_key(self) -> str:
        return f"ul_session_{next(self.handed)}"


def answered(request_id: str, prompt_tokens: int, completion_tokens: int) -> Journey:
    """The journey that the fake public listener leaves behind."""
    return journey(
        request_id,
        at_s=time.time(),
        usage=Usage(prompt_tokens=prompt_tokens, cached_tokens=0, completion_tokens=completion_tokens),
    )
