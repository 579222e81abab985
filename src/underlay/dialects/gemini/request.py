"""From a request to an ``Ask``, one function for each kind of request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underlay.dialects import json_body
from underlay.dialects.delivery import patience_s
from underlay.dialects.gemini.contents import text_of, turns_of
from underlay.dialects.gemini.fields import camel_fields, inner, inner_list
from underlay.dialects.gemini.generation import generation_of
from underlay.dialects.gemini.tools import tooling_of
from underlay.dialects.wire import Route
from underlay.domain.errors import BadRequest
from underlay.domain.prompt import Ask, Operation, Prompt

HONOURED = frozenset({
    "model", "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "cachedContent",
    "serviceTier",
})  # fmt: skip
EMBEDDING_FIELDS = frozenset({"model", "content", "outputDimensionality", "embedContentConfig"})

EMBEDDINGS_MAX = 2048
BAND_OF_TIER = {"unspecified": "", "standard": "", "flex": "batch", "priority": "priority"}


def parse(route: Route, body: bytes, headers: Mapping[str, str]) -> Ask:
    """Understand a request of any kind."""
    fields = camel_fields(json_body.decode_object(body))
    model = route.model or ""
    ignored: list[str] = []
    if route.name == "embed":
        prompt = _embedding(model, [(fields, "")], ignored)
    elif route.name == "batch_embed":
        prompt = _batch(model, fields, ignored)
    elif route.name == "count_tokens":
        prompt = _count(model, fields, ignored)
    else:
        prompt = _generation("chat", model, fields, "", ignored)
    stream = route.name == "stream_generate"
    if stream and stream_form(route) not in ("sse", "json"):
        raise json_body.wrong("", "alt", '"sse", "json" or absent', stream_form(route))
    return Ask(
        prompt=prompt,
        stream=stream,
        ignored=tuple(dict.fromkeys(ignored)),
        deadline_s=patience_s(headers, "x-server-timeout"),
        band=_band(fields) if prompt.operation == "chat" else "",
    )


def _band(fields: Mapping[str, Any]) -> str:
    """Which class of urgency the tier asked for stands for; the vendor writes tiers in upper case and in lower."""
    tier = json_body.optional_str(fields, "serviceTier") or "unspecified"
    band = BAND_OF_TIER.get(tier.lower())
    if band is None:
        wanted = "one of " + ", ".join(f'"{tier}"' for tier in BAND_OF_TIER)
        raise json_body.wrong("", "serviceTier", wanted, tier)
    return band


def stream_form(route: Route) -> str:
    """How a stream is wanted: ``sse`` for events, ``json`` for one array."""
    return route.query.get("alt") or route.query.get("$alt") or "json"


def _generation(
    operation: Operation, model: str, fields: Mapping[str, Any], where: str, ignored: list[str]
) -> Prompt:
    if "cachedContent" in fields:
        param = json_body.path(where, "cachedContent")
        raise BadRequest(
            f"'{param}' cannot be honoured: nothing is stored here. Send the content itself; "
            "repeated prefixes are cached automatically.",
            param=param,
        )
    ignored += [name for name in fields if name not in HONOURED]
    messages = turns_of(fields, where)
    tooling = tooling_of(fields, where, ignored)
    generation = generation_of(fields, where, ignored)
    return Prompt(
        operation=operation,
        model=model,
        messages=messages,
        tools=tooling.tools,
        tool_choice=tooling.choice,
        format=generation.format,
        sampling=generation.sampling,
        n=generation.candidates,
    )


def _count(model: str, fields: Mapping[str, Any], ignored: list[str]) -> Prompt:
    """Either the contents alone or the whole request that they would be part of."""
    if "generateContentRequest" not in fields:
        return _generation("count", model, fields, "", ignored)
    ignored += [name for name in fields if name != "generateContentRequest"]
    request = inner(fields, "generateContentRequest")
    return _generation("count", model, request, "generateContentRequest", ignored)


def _batch(model: str, fields: Mapping[str, Any], ignored: list[str]) -> Prompt:
    requests = inner_list(fields, "requests")
    if not 1 <= len(requests) <= EMBEDDINGS_MAX:
        raise json_body.wrong("", "requests", f"an array of 1 to {EMBEDDINGS_MAX} requests", requests)
    ignored += [name for name in fields if name not in ("requests", "model")]
    return _embedding(model, [(each, f"requests[{index}]") for index, each in enumerate(requests)], ignored)


def _embedding(model: str, requests: list[tuple[dict[str, Any], str]], ignored: list[str]) -> Prompt:
    texts = []
    for request, where in requests:
        config = inner(request, "embedContentConfig", where=where)
        for fields, here in ((request, where), (config, json_body.path(where, "embedContentConfig"))):
            if "outputDimensionality" in fields:
                param = json_body.path(here, "outputDimensionality")
                raise BadRequest(
                    f"'{param}' cannot be honoured: embeddings have the model's own length.", param=param
                )
            ignored += [name for name in fields if name not in EMBEDDING_FIELDS]
        text = text_of(inner(request, "content", where=where), json_body.path(where, "content"))
        if not text:
            raise json_body.missing(where, "content", "a content with some text")
        texts.append(text)
    return Prompt(operation="embedding", model=model, texts=tuple(texts))
