"""What is in a journal, taken as a whole? Read once until it is changed.

Who called which models how often, how prompts' bytes become tokens, which replicas were there when, which keys
were known, and how long the engines took. Time is counted from the first call on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from underlay.control.events import (
    Arrived,
    BudgetSpent,
    KeyChanged,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    SettingsChanged,
)
from underlay.control.journal import Entry, Header
from underlay.domain.errors import BadRequest

from .calls import Calls, RecordedCall
from .loads import Loads, Times
from .reading import changed_ns, opened

#: What engines generate text for; counts and embeddings are no work that the twin knows.
MODELLED = ("chat", "completion")
#: Tokens of a byte: between a character of four bytes that is half a token, and a token for each byte.
_TOKENS_PER_BYTE = (1 / 16, 1.0)
#: English in the tokenizers of today, where a journal cannot tell.
_USUAL_TOKENS_PER_BYTE = 1 / 4

#: What changes of the world, beside calls.
Change = KeyChanged | ReplicaSeen | ReplicaLost | ReplicaDraining | BudgetSpent | SettingsChanged


class Words(NamedTuple):
    """How a model's prompts become tokens: some for each byte, and some that all begin with (a template's)."""

    tokens_per_byte: float
    opening_tokens: float

    def tokens(self, prompt_bytes: int) -> int:
        """The tokens of a prompt."""
        return max(1, round(self.opening_tokens + self.tokens_per_byte * prompt_bytes))


class ModelSeen:
    """What a journal tells of one model: how many calls it got, their sizes, what became of them."""

    __slots__ = ("_answers", "_bytes", "_cached", "_output_tokens", "_products", "_squares", "_tokens", "_told",
                 "calls")  # fmt: skip

    def __init__(self) -> None:
        self.calls = 0
        self._answers = self._output_tokens = 0
        self._told = self._bytes = self._tokens = self._squares = self._products = 0
        self._cached: Counter[int] = Counter()

    def add(self, call: RecordedCall) -> None:
        """Take in a call whose end is known."""
        self.calls += 1
        size, usage = call.arrived.prompt_bytes, call.usage
        if call.outcome == "finished":
            self._answers += call.arrived.strands
            self._output_tokens += usage.completion_tokens
        if usage.prompt_tokens:
            self._cached[usage.cached_tokens] += 1
            self._told += 1
            self._bytes += size
            self._tokens += usage.prompt_tokens
            self._squares += size * size
            self._products += size * usage.prompt_tokens

    def words(self) -> Words:
        """The straight line through bytes and tokens of all prompts; through the origin if they are all alike."""
        count, least, most = self._told, *_TOKENS_PER_BYTE
        if not count:
            return Words(_USUAL_TOKENS_PER_BYTE, 0.0)
        spread = self._squares - self._bytes * self._bytes / count
        slope = self._tokens / max(1, self._bytes)
        if spread > 0.0:
            slope = (self._products - self._bytes * self._tokens / count) / spread
        slope = min(max(slope, least), most)
        return Words(slope, max(0.0, (self._tokens - slope * self._bytes) / count))

    def opening_tokens(self) -> int:
        """How many tokens all prompts begin with that engines keep: as many as most prompts found; 0 if none."""
        found = self._cached.most_common(1)
        return found[0][0] if found and 2 * found[0][1] > self._told else 0

    def answer_tokens(self) -> int:
        """The mean answer of finished calls; 1 if none finished."""
        return max(1, round(self._output_tokens / self._answers)) if self._answers else 1


class Survey:
    """A journal seen from above.

    ``begin_at`` is its first call's Unix time and zero of all times here; ``last_s`` when the last call came,
    ``end_s`` when the last thing happened. ``changes`` are those of the world (time, event), in order; ``whose``
    is what each key's calls are booked under: its tenant, and the key where a tenant has several.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.models: dict[str, ModelSeen] = {}
        self.outcomes: Counter[str] = Counter()
        self.cut = self.strands = self.unmodelled = 0
        self.bands: dict[str, None] = {}
        self.begin_at = self.last_s = self.end_s = 0.0
        self.changes: list[tuple[float, Change]] = []
        self._seconds: Counter[int] = Counter()
        self._keys: dict[str, str] = {}  # of those who called: their tenants
        self._loads = Loads()
        with opened(path) as (header, entries):
            self.header: Header = header
            self._read(entries)
        self._finish()

    @property
    def times(self) -> dict[str, Times]:
        """How long the engines took, by model."""
        return self._loads.times

    def between(self, start_s: float, stop_s: float) -> int:
        """How many calls come in the seconds from one time to another, those that are begun included."""
        if stop_s > self.last_s:
            stop_s = self.last_s + 1.0
        first, end = np.searchsorted(self._known, [floor(start_s), ceil(stop_s)])
        return int(self._summed[end] - self._summed[first])

    def _read(self, entries: Iterable[Entry]) -> None:
        calls, asked = Calls(), dict[str, str]()
        begun = False
        at = self.begin_at = self.header.begun_at
        for entry in entries:
            event = entry.event
            at = event.at
            if isinstance(event, Arrived):
                asked[event.ticket] = event.model
                if not begun and event.operation in MODELLED:
                    self.begin_at, begun = at, True
            elif isinstance(event, Change):
                self.changes.append((at, event))
            calls.take(entry)
            self._loads.take(entry, asked)
            while calls.ready:
                self._add(calls.ready.popleft(), asked)
        calls.close()
        for call in calls.ready:
            self._add(call, asked)
        self.end_s = at - self.begin_at

    def _add(self, call: RecordedCall, asked: dict[str, str]) -> None:
        asked.pop(call.arrived.ticket, None)
        if call.arrived.operation not in MODELLED or call.outcome == "repeated":
            self.unmodelled += 1
            return
        self.count += 1
        self.outcomes[call.outcome] += 1
        self.cut += call.cut
        self.strands += call.arrived.strands > 1
        self.models.setdefault(call.arrived.model, ModelSeen()).add(call)
        self.bands[call.arrived.band] = None
        if call.key_id:
            self._keys[call.key_id] = call.tenant
        self.last_s = call.arrived.at - self.begin_at
        self._seconds[floor(self.last_s)] += 1

    def _finish(self) -> None:
        if not self.count:
            raise BadRequest(f"{self.path}: nobody asked for text in this journal.", param="path")
        self.changes = [(at - self.begin_at, event) for at, event in self.changes]
        keys_of = Counter(self._keys.values())
        self.whose = {
            key_id: tenant if keys_of[tenant] == 1 else f"{tenant} ({key_id})"
            for key_id, tenant in self._keys.items()
        }
        self._known = np.fromiter(self._seconds.keys(), np.float64, len(self._seconds))
        self._summed = np.concatenate(([0], np.cumsum(np.fromiter(self._seconds.values(), np.int64))))


def survey(path: Path) -> Survey:
    """Look at a whole journal, once until it is changed. Errors: BadRequest."""
    return _survey(path, changed_ns(path))


@lru_cache(maxsize=4)
def _survey(path: Path, _changed_ns: int) -> Survey:
    return Survey(path)
