"""What comes back: pieces of text as they are made, how a generation ended, what it used."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from underlay.domain.energy import RequestEnergy
from underlay.domain.prompt import ToolCall

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class TokenLogprob(Struct, frozen=True):
    """A token with its natural-log probability; ``top`` are the likeliest alternatives, best first."""

    token: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class ToolCallDelta(Struct, frozen=True):
    """A part of tool call number ``index``: id and name come once and first, ``arguments`` is appended."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Piece(Struct, frozen=True):
    """What one engine event adds to a strand."""

    text: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class StrandEnd(Struct, frozen=True):
    """Why a generation ended; ``stop_string`` is the stop sequence that was met, if one was."""

    finish: Finish
    stop_string: str | None = None


class Strand(Struct, frozen=True):
    """A whole generation, for replies that do not stream."""

    text: str
    end: StrandEnd
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Usage(Struct, frozen=True):
    """Tokens by the engine's own count. ``prompt_tokens`` includes ``cached_tokens`` (prefix-cache hits)."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class Opening(Struct, frozen=True):
    """What every reply says of itself: the request's id (``req_…``), when, and which model answered.

    ``created_s`` is Unix time in whole seconds.
    """

    request_id: str
    created_s: int
    model: str


class Receipt(Struct, frozen=True):
    """The last word on a request: tokens and what they cost (US dollars as an exact decimal string).

    ``energy`` is what is known of its joules by now; ``None`` where nothing is metered.
    """

    usage: Usage
    cost_usd: str
    energy: RequestEnergy | None = None


class ModelCard(Struct, frozen=True):
    """A model as callers see it in lists. ``created_s`` is Unix time; limits are in tokens."""

    id: str
    created_s: int
    context_tokens: int
    owned_by: str = "underlay"
    operations: tuple[str, ...] = ("chat", "completion", "count")


class Timings(Struct, frozen=True):
    """How long the engine itself says it took, in milliseconds."""

    prefill_ms: float = 0.0
    decode_ms: float = 0.0


class Resume(Struct, frozen=True):
    """What a strand already delivered, for another engine to go on from.

    ``text`` is all of it; ``parts`` is the same as token ids where the engine gave them and as text where it
    did not, in order; ``completion_tokens`` is how many tokens that is by the engine's count. ``tool_calls`` are
    the calls begun so far, as delivered; ``parts`` is empty where an engine that gave no ids had written some.
    """

    text: str = ""
    parts: tuple[int | str, ...] = ()
    completion_tokens: int = 0
    tool_calls: tuple[ToolCall, ...] = ()


class EngineEvent(Struct, frozen=True):
    """One event of one exchange with an engine, whatever its wire format was.

    ``tokens`` are the ids behind ``piece`` where the engine gives them. ``completion_tokens`` counts this
    exchange's tokens so far (not those resumed from). Prompt counts are ``None`` until the engine told them.
    A last event has ``end``. An event may carry ids and no text (the engine withholds text that may turn out
    to be part of a stop string or of a character): those ids belong to the next text.
    """

    piece: Piece | None = None
    tokens: tuple[int, ...] = ()
    completion_tokens: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    end: StrandEnd | None = None
    timings: Timings | None = None
