"""Legacy completions: a text in, what follows it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from underlay.dialects.json_body import optional_bool, optional_int, required_str
from underlay.dialects.openai.errors import error_body
from underlay.dialects.openai.fields import (
    SAMPLING_FIELDS,
    deadline_s,
    read_band,
    read_n,
    read_sampling,
    read_session,
    read_stream_options,
    read_token_limit,
    sort_out,
)
from underlay.dialects.openai.frames import (
    DONE,
    bare_id,
    cost_object,
    data_frame,
    encode,
    finite,
    usage_object,
)
from underlay.dialects.openai.texts import read_texts
from underlay.domain.answer import Opening, Piece, Receipt, Strand, StrandEnd, TokenLogprob, Usage
from underlay.domain.errors import BadRequest, UnderlayError
from underlay.domain.prompt import Ask, Prompt

HONOURED = SAMPLING_FIELDS | {
    "model", "prompt", "stream", "stream_options", "max_tokens", "n", "best_of", "logprobs", "echo",
    "service_tier", "prompt_cache_key",
}  # fmt: skip
REFUSED_HERE = frozenset({"suffix"})

MAX_TOKENS_DEFAULT = 16
"""What this API documents for a request that does not say how much to write."""


def parse(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Ask:
    """Understand a completion request."""
    ignored = sort_out(fields, HONOURED, REFUSED_HERE)
    logprobs = optional_int(fields, "logprobs", minimum=0, maximum=5)
    limit = read_token_limit(fields, "max_tokens")
    include_usage, ignored_options = read_stream_options(fields)
    band = read_band(fields, ignored)
    prompt = Prompt(
        operation="completion",
        model=required_str(fields, "model"),
        texts=read_texts(fields, "prompt"),
        sampling=read_sampling(fields, MAX_TOKENS_DEFAULT if limit is None else limit, logprobs),
        n=read_n(fields),
    )
    _refuse_choosing(fields, prompt.n)
    return Ask(
        prompt=prompt,
        stream=bool(optional_bool(fields, "stream")),
        ignored=(*ignored, *ignored_options),
        deadline_s=deadline_s(headers),
        session=read_session(fields),
        band=band,
        extras={"include_usage": include_usage, "echo": _read_echo(fields, prompt)},
    )


def _refuse_choosing(fields: Mapping[str, Any], n: int) -> None:
    best_of = optional_int(fields, "best_of", minimum=1)
    if best_of not in (None, 1, n):
        raise BadRequest("'best_of' is supported only where it equals 'n'. Ask for more with 'n'.", param="best_of")


def _read_echo(fields: Mapping[str, Any], prompt: Prompt) -> bool:
    if not optional_bool(fields, "echo"):
        return False
    if prompt.sampling.logprobs is not None:
        raise BadRequest("'echo' together with 'logprobs' is not supported. Leave one out.", param="echo")
    if not all(isinstance(text, str) for text in prompt.texts):
        raise BadRequest("'echo' needs prompts that are strings, not token ids.", param="echo")
    return True


def _echoed(ask: Ask, strand: int) -> str:
    text = ask.prompt.texts[strand // ask.prompt.n]
    return text if ask.extras.get("echo") and isinstance(text, str) else ""


def _finish_reason(end: StrandEnd) -> str:
    # A plain completion calls no tools, whatever an engine says of its ending.
    return "stop" if end.finish == "tool_calls" else end.finish


def _logprobs_object(tokens: Iterable[TokenLogprob], offset: int, with_alternatives: bool) -> dict[str, Any]:
    """Write probabilities the legacy way, in parallel lists; ``offset`` is where the first token begins."""
    tokens = tuple(tokens)
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    alternatives = [{other.token: finite(other.logprob) for other in (*token.top, token)} for token in tokens]
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [finite(token.logprob) for token in tokens],
        "top_logprobs": alternatives if with_alternatives else None,
        "text_offset": offsets,
    }


def _head(opening: Opening) -> dict[str, Any]:
    return {
        "id": "cmpl-" + bare_id(opening),
        "object": "text_completion",
        "created": opening.created_s,
        "model": opening.model,
    }


def reply(ask: Ask, opening: Opening, strands: Sequence[Strand], receipt: Receipt) -> bytes:
    """Write a whole completion."""
    return encode(
        {
            **_head(opening),
            "choices": [_choice(ask, index, strand) for index, strand in enumerate(strands)],
            "usage": usage_object(opening, receipt),
            "x_cost": cost_object(receipt),
        }
    )


def _choice(ask: Ask, index: int, strand: Strand) -> dict[str, Any]:
    wanted = ask.prompt.sampling.logprobs
    return {
        "index": index,
        "text": _echoed(ask, index) + strand.text,
        "logprobs": None if wanted is None else _logprobs_object(strand.logprobs, 0, wanted > 0),
        "finish_reason": _finish_reason(strand.end),
    }


class CompletionWriter:
    """Writes a completion as chunks, which look like whole completions with a little text each."""

    def __init__(self, ask: Ask, opening: Opening) -> None:
        self._ask = ask
        self._opening = opening
        self._include_usage = bool(ask.extras.get("include_usage"))
        self._wanted_logprobs = ask.prompt.sampling.logprobs
        self._strands = ask.prompt.strands
        self._offsets = [0] * self._strands
        self._head = b"data: " + encode(_head(opening))[:-1] + b',"choices":['
        self._tail = (b',"usage":null}' if self._include_usage else b"}") + b"\n\n"
        self._before_text = [self._head + b'{"index":%d,"text":' % strand for strand in range(self._strands)]
        self._after_text = b',"logprobs":null,"finish_reason":null}]' + self._tail

    def open(self, usage: Usage) -> bytes:  # noqa: ARG002 (this API tells usage at the end)
        """Repeat the prompts if that was asked for."""
        return b"".join(
            self._text(strand, echoed) for strand in range(self._strands) if (echoed := _echoed(self._ask, strand))
        )

    def piece(self, strand: int, piece: Piece) -> bytes:
        """Write what one engine event added; text alone is the hot path."""
        if self._wanted_logprobs is not None and piece.logprobs:
            return self._rich_piece(strand, piece, self._wanted_logprobs)
        if not piece.text:
            return b""
        return self._before_text[strand] + encode(piece.text) + self._after_text

    def end(self, strand: int, end: StrandEnd) -> bytes:
        """Say why a strand ended."""
        choice = {"index": strand, "text": "", "logprobs": None, "finish_reason": _finish_reason(end)}
        return self._head + encode(choice) + b"]" + self._tail

    def close(self, receipt: Receipt) -> bytes:
        """Write the usage if it was asked for, then the end mark."""
        if not self._include_usage:
            return DONE
        last = {"usage": usage_object(self._opening, receipt), "x_cost": cost_object(receipt)}
        return self._head + b"]," + encode(last)[1:] + b"\n\n" + DONE

    def fail(self, error: UnderlayError) -> bytes:
        """Write the error frame that SDKs raise."""
        return data_frame(error_body(error))

    def _text(self, strand: int, text: str) -> bytes:
        return self._before_text[strand] + encode(text) + self._after_text

    def _rich_piece(self, strand: int, piece: Piece, wanted: int) -> bytes:
        logprobs = _logprobs_object(piece.logprobs, self._offsets[strand], wanted > 0)
        self._offsets[strand] += sum(len(token) for token in logprobs["tokens"])
        choice = {"index": strand, "text": piece.text, "logprobs": logprobs, "finish_reason": None}
        return self._head + encode(choice) + b"]" + self._tail
