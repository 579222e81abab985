"""The shapes of requests, answers and errors, dialect by dialect, as JSON Schema for ``openapi.py``.

Requests are exact: what is required, which types, which ranges. Unknown fields are allowed everywhere, as the
platform ignores and reports them, and ``null`` stands for an absent field. Answers are loose: they name what
callers rely on and leave room for more.
"""

from __future__ import annotations

from typing import Any

import msgspec

from underlay.domain.answer import ModelCard
from underlay.domain.views import EnergyRecord, Journey, LedgerRow, PlatformRow, ReplicaRow

Schema = dict[str, Any]

TOKENS_MAX = 2**31 - 1


def ref(name: str) -> Schema:
    """Point to a shape by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _text(**more: Any) -> Schema:
    return {"type": "string", **more}


def _integer(low: int | None = None, high: int | None = None) -> Schema:
    bounds = {"minimum": low, "maximum": high}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _object(required: Schema | None = None, optional: Schema | None = None, **more: Any) -> Schema:
    """Describe an object; each optional field may also be ``null``."""
    required = required or {}
    properties = required | {name: _or_null(schema) for name, schema in (optional or {}).items()}
    schema: Schema = {"type": "object"}
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = list(required)
    return schema | more


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _one(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _const(value: str) -> Schema:
    return {"const": value}


ANY_OBJECT: Schema = {"type": "object"}
_TRUTH: Schema = {"type": "boolean"}
_TOKEN_ID = _integer(0, TOKENS_MAX)
_STOP = _one(_text(minLength=1), _array(_text(minLength=1), maxItems=4))
_TOOL_NAME = _text(pattern="^[A-Za-z0-9_.:-]{1,128}$")


def _texts(*, empty: bool) -> Schema:
    """Bare texts: one, a list of them, or either as token ids."""
    text = _text() if empty else _text(minLength=1)
    ids = _array(_TOKEN_ID, minItems=1)
    return _one(text, ids, _array(text, minItems=1, maxItems=2048), _array(ids, minItems=1, maxItems=2048))


def _parts(*kinds: str) -> Schema:
    """Text as a string or as a list of parts."""
    part = _object({"type": {"enum": list(kinds)}, "text": _text()})
    return _one(_text(), _array(part))


_SAMPLING: Schema = {
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "top_k": _integer(-1, TOKENS_MAX),
    "min_p": _number(0, 1),
    "seed": _integer(-(2**63), 2**63 - 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _object(
        propertyNames={"pattern": "^[0-9]{1,9}$"}, additionalProperties=_or_null(_number(-100, 100))
    ),
    "stop": _STOP,
    "n": _integer(1, 128),
    "stream": _TRUTH,
    "stream_options": _object(optional={"include_usage": _TRUTH, "include_obfuscation": _TRUTH}),
}


def _openai_format() -> Schema:
    """Chat's ``response_format``."""
    inner = _object({"schema": ANY_OBJECT}, {"name": _text()})
    return _one(
        _object({"type": {"enum": ["text", "json_object"]}}),
        _object({"type": _const("json_schema"), "json_schema": inner}),
    )


def _chat_message() -> Schema:
    function = _object({"name": _text(minLength=1)}, {"arguments": _text()})
    call = _object({"id": _text(minLength=1), "function": function}, {"type": _const("function")})
    text = _parts("text")
    return _one(
        _object({"role": {"enum": ["system", "developer", "user"]}, "content": text}, {"name": _text()}),
        _object({"role": _const("assistant"), "content": text}, {"tool_calls": _array(call), "name": _text()}),
        _object({"role": _const("assistant"), "tool_calls": _array(call, minItems=1)}, {"content": text}),
        _object({"role": _const("tool"), "content": text, "tool_call_id": _text(minLength=1)}),
    )


def _chat_tool() -> Schema:
    function = _object({"name": _TOOL_NAME}, {"description": _text(), "parameters": ANY_OBJECT, "strict": _TRUTH})
    return _object({"type": _const("function"), "function": function})


def _chat_choice() -> Schema:
    named = _object({"type": _const("function"), "function": _object({"name": _text(minLength=1)})})
    return _one({"enum": ["none", "auto", "required"]}, named)


def _openai_requests() -> Schema:
    limit = _integer(1, TOKENS_MAX)
    item = _object({"role": {"enum": ["user", "system", "developer"]}, "content": _parts("input_text")})
    response_tool = _object(
        {"type": _const("function"), "name": _TOOL_NAME}, {"description": _text(), "parameters": ANY_OBJECT}
    )
    response_format = _one(
        _object({"type": {"enum": ["text", "json_object"]}}),
        _object({"type": _const("json_schema"), "schema": ANY_OBJECT}, {"name": _text()}),
    )
    return {
        "ChatCompletionRequest": _object(
            {"model": _text(minLength=1), "messages": _array(ref("ChatMessage"), minItems=1)},
            _SAMPLING
            | {
                "max_completion_tokens": limit,
                "max_tokens": limit,
                "tools": _array(_chat_tool()),
                "tool_choice": _chat_choice(),
                "parallel_tool_calls": _TRUTH,
                "response_format": _openai_format(),
                "logprobs": _TRUTH,
                "top_logprobs": _integer(0, 20),
                "modalities": {"const": ["text"]},
            },
        ),
        "ChatMessage": _chat_message(),
        "CompletionRequest": _object(
            {"model": _text(minLength=1), "prompt": _texts(empty=True)},
            _SAMPLING | {"max_tokens": limit, "logprobs": _integer(0, 5), "best_of": _integer(1), "echo": _TRUTH},
        ),
        "EmbeddingRequest": _object(
            {"model": _text(minLength=1), "input": _texts(empty=False)},
            {"encoding_format": {"enum": ["float", "base64"]}},
        ),
        "ResponseRequest": _object(
            {"model": _text(minLength=1), "input": _one(_text(minLength=1), _array(item, minItems=1))},
            {
                "instructions": _text(),
                "max_output_tokens": limit,
                "temperature": _number(0, 2),
                "top_p": _number(0, 1),
                "tools": _array(response_tool),
                "parallel_tool_calls": _TRUTH,
                "previous_response_id": _text(),
                "store": _TRUTH,
                "stream": _TRUTH,
                "text": _object(optional={"format": response_format}),
                "top_logprobs": _integer(0, 20),
                "truncation": {"enum": ["auto", "disabled"]},
                "metadata": _object(additionalProperties=_text(maxLength=512), maxProperties=16),
            },
        ),
    }


def _openai_answers() -> Schema:
    chat_choice = _object({"index": _integer(0), "message": _object({"role": _const("assistant")})})
    text_choice = _object({"index": _integer(0), "text": _text()})
    vector = _object(
        {"object": _const("embedding"), "index": _integer(0), "embedding": {"type": ["array", "string"]}}
    )
    usage = _object({"prompt_tokens": _integer(0), "total_tokens": _integer(0)})
    head: Schema = {"id": _text(), "created": _integer(0), "model": _text()}
    model = _object({"id": _text(), "object": _const("model"), "created": _integer(), "owned_by": _text()})
    states = ["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"]
    return {
        "ChatCompletion": _object(
            head | {"object": _const("chat.completion"), "choices": _array(chat_choice), "usage": usage}
        ),
        "Completion": _object(
            head | {"object": _const("text_completion"), "choices": _array(text_choice), "usage": usage}
        ),
        "Embeddings": _object({"object": _const("list"), "data": _array(vector), "model": _text(), "usage": usage}),
        "OpenAIModel": model,
        "OpenAIModels": _object({"object": _const("list"), "data": _array(ref("OpenAIModel"))}),
        "Response": _object(
            {
                "id": _text(),
                "object": _const("response"),
                "created_at": _integer(0),
                "status": {"enum": states},
                "model": _text(),
                "output": _array(ANY_OBJECT),
            }
        ),
        "ResponseDeleted": _object({"id": _text(), "object": _text(), "deleted": _TRUTH}),
        "ResponseInputTokens": _object({"object": _text(), "input_tokens": _integer(0)}),
        "OpenAIError": _object(
            {"error": _object({"message": _text(), "type": _text()}, {"param": _text(), "code": _text()})}
        ),
    }


def _anthropic() -> Schema:
    text = _object({"type": _const("text"), "text": _text()})
    tool_use = _object(
        {"type": _const("tool_use"), "id": _text(minLength=1), "name": _text(minLength=1)}, {"input": ANY_OBJECT}
    )
    tool_result = _object(
        {"type": _const("tool_result"), "tool_use_id": _text(minLength=1)},
        {"content": _one(_text(), _array(text)), "is_error": _TRUTH},
    )
    message = _one(
        _object(
            {
                "role": _const("user"),
                "content": _one(_text(), _array(_one(text, tool_result), minItems=1)),
            }
        ),
        _object({"role": _const("assistant"), "content": _one(_text(), _array(_one(text, tool_use)))}),
    )
    tool = _object(
        {"name": _text(minLength=1), "input_schema": ANY_OBJECT}, {"description": _text(), "type": _const("custom")}
    )
    shared: Schema = {
        "system": _one(_text(), _array(text)),
        "tools": _array(tool),
        "tool_choice": _object({"type": {"enum": ["auto", "none"]}}, {"disable_parallel_tool_use": _TRUTH}),
        "thinking": _object({"type": {"enum": ["enabled", "disabled", "adaptive"]}}),
    }
    asked: Schema = {
        "model": _text(minLength=1),
        "messages": {
            **_array(message, minItems=1),
            "contains": _object({"role": _const("user")}),
        },
    }
    stop_reasons = [
        "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal",
        "model_context_window_exceeded",
    ]  # fmt: skip
    return {
        "MessageRequest": _object(
            asked | {"max_tokens": _integer(1, TOKENS_MAX)},
            shared
            | {
                "stop_sequences": _array(_text(minLength=1)),
                "stream": _TRUTH,
                "temperature": _number(0, 2),
                "top_p": _number(0, 1),
                "top_k": _integer(0, TOKENS_MAX),
            },
        ),
        "CountTokensRequest": _object(asked, shared),
        "Message": _object(
            {
                "id": _text(),
                "type": _const("message"),
                "role": _const("assistant"),
                "model": _text(),
                "content": _array(ANY_OBJECT),
                "stop_reason": {"enum": stop_reasons},
                "usage": _object({"input_tokens": _integer(0), "output_tokens": _integer(0)}),
            },
            {"stop_sequence": _text()},
        ),
        "CountedTokens": _object({"input_tokens": _integer(0)}),
        "AnthropicError": _object(
            {"type": _const("error"), "error": _object({"type": _text(), "message": _text()})},
            {"request_id": _text()},
        ),
    }


def _gemini() -> Schema:
    part = _object({"text": _text()})
    content = _object({"parts": _array(part, minItems=1)}, {"role": {"enum": ["user", "model"]}})
    spoken = _object({"parts": _array(_object({"text": _text(minLength=1)}), minItems=1)})
    config = _object(
        optional={
            "temperature": _number(0, 2),
            "topP": _number(0, 1),
            "topK": _number(0, TOKENS_MAX),
            "maxOutputTokens": _integer(1, TOKENS_MAX),
            "stopSequences": _array(_text(minLength=1)),
            "candidateCount": _integer(1, 8),
            "seed": _integer(-(2**63), 2**63 - 1),
            "presencePenalty": _number(-2, 2),
            "frequencyPenalty": _number(-2, 2),
            "responseMimeType": {"enum": ["text/plain", "application/json"]},
            "responseSchema": ANY_OBJECT,
        }
    )
    function = _object({"name": _text(minLength=1)}, {"description": _text(), "parameters": ANY_OBJECT})
    asked: Schema = {"contents": _array(content, minItems=1)}
    also: Schema = {
        "systemInstruction": _object({"parts": _array(part)}),
        "tools": _array(_object(optional={"functionDeclarations": _array(function)})),
        "generationConfig": config,
        "safetySettings": _array(ANY_OBJECT),
    }
    return {
        "GenerateContentRequest": _object(asked, also),
        "GeminiCountTokensRequest": _one(_object(asked), _object({"generateContentRequest": _object(asked, also)})),
        "EmbedContentRequest": _object({"content": spoken}, {"taskType": _text()}),
        "BatchEmbedContentsRequest": _object(
            {"requests": _array(ref("EmbedContentRequest"), minItems=1, maxItems=2048)}
        ),
        "GenerateContentResponse": _object(
            optional={
                "candidates": _array(ANY_OBJECT),
                "promptFeedback": ANY_OBJECT,
                "usageMetadata": ANY_OBJECT,
                "modelVersion": _text(),
                "responseId": _text(),
            }
        ),
        "GeminiCountedTokens": _object({"totalTokens": _integer(0)}),
        "EmbedContentResponse": _object({"embedding": _object({"values": _array({"type": "number"})})}),
        "BatchEmbedContentsResponse": _object(
            {"embeddings": _array(_object({"values": _array({"type": "number"})}))}
        ),
        "GeminiModel": _object({"name": _text()}, {"supportedGenerationMethods": _array(_text())}),
        "GeminiModels": _object({"models": _array(ref("GeminiModel"))}, {"nextPageToken": _text()}),
        "GeminiError": _object(
            {"error": _object({"code": _integer(400, 599), "message": _text(), "status": _text()})}
        ),
    }


def _console() -> Schema:
    _, records = msgspec.json.schema_components(
        [ModelCard, EnergyRecord, Journey, LedgerRow, PlatformRow, ReplicaRow],
        ref_template="#/components/schemas/{name}",
    )
    session = _object({"public_url": _text(), "key": _text(), "models": _array(ref("ModelCard"))})
    error = _object(
        {"message": _text(), "type": _text(), "code": _text(), "request_id": _text()}, {"param": _text()}
    )
    return {
        **records,
        "Session": session,
        "Login": _object({"key": _text()}, additionalProperties=False),
        "Drain": _object({"replica": _text(), "drain": _TRUTH}, additionalProperties=False),
        "Live": _object({"live": _TRUTH}),
        "Ready": _object({"ready": _TRUTH}, {"reasons": _array(_text())}),
        "ConsoleError": _object({"error": error}),
    }


def components() -> Schema:
    """Every shape by its name."""
    return _openai_requests() | _openai_answers() | _anthropic() | _gemini() | _console()
