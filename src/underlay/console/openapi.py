"""The OpenAPI 3.1 description of both listeners' JSON endpoints, for people, clients and contract tests.

Operations are tagged ``public`` or ``console`` after their listener; a test of one listener picks its tag.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from underlay.console.openapi_schemas import ANY_OBJECT, Schema, components, ref

#: Why a generation API may refuse: status -> what it means.
REFUSALS = {
    400: "Bad JSON, a bad field, a field that cannot be honoured, or a prompt too long for the model.",
    401: "No key, a wrong one, an expired or revoked one.",
    403: "The key may not use this model.",
    404: "No such model or thing.",
    405: "The path exists, the method does not.",
    408: "The request did not arrive whole in time.",
    409: "The request contradicts something that is already there.",
    413: "The body is larger than this listener accepts.",
    429: "A limit or the budget of this key; the message names it, Retry-After says when it resets.",
    431: "The header block is larger than this listener accepts.",
    500: "A defect of this platform.",
    501: "No engine here can do it.",
    502: "The engine failed and no other could take over.",
    503: "The platform is full, starting or draining; not the caller's limit.",
    504: "It waited longer than the caller would.",
    529: "The platform is full (as Anthropic's clients know it).",
}

CONSOLE_REFUSALS = {
    400: "A bad parameter, named in param.",
    401: "No key, or one that does not open the console.",
    403: "The call came from another origin's page.",
    404: "No such thing.",
    405: "The path exists, the method does not.",
    413: "The body is too large.",
    421: "The console is not known by that host name.",
    500: "A defect of this platform.",
}

GEMINI_ACTIONS = {
    "generateContent": ("GenerateContentRequest", "GenerateContentResponse", "Generate an answer."),
    "countTokens": ("GeminiCountTokensRequest", "GeminiCountedTokens", "Count a prompt's tokens."),
    "embedContent": ("EmbedContentRequest", "EmbedContentResponse", "Embed one content."),
    "batchEmbedContents": ("BatchEmbedContentsRequest", "BatchEmbedContentsResponse", "Embed several contents."),
}


class _Public(NamedTuple):
    """An operation of the generation APIs."""

    method: str
    path: str
    summary: str
    error: str
    answer: str
    body: str | None = None
    streams: bool = False
    parameters: tuple[Schema, ...] = ()


def document(version: str, public_url: str, console_url: str) -> dict[str, Any]:
    """Describe the platform whose listeners have these addresses."""
    public, console = {"url": public_url}, {"url": console_url}
    paths: dict[str, Any] = {}
    for operation in _public_operations():
        path = paths.setdefault(operation.path, {"servers": [public]})
        path[operation.method] = _public_operation(operation)
    for path_name, methods in _console_paths().items():
        paths[path_name] = {"servers": [console], **methods}
    for probe in ("/livez", "/readyz"):
        paths[probe]["servers"] = [console, public]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Underlay",
            "version": version,
            "summary": "Generation APIs in three dialects, and the console that shows what happens under them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [public],
        "tags": [
            {"name": "public", "description": "The listener of the generation APIs."},
            {"name": "console", "description": "The listener of pages, records, probes and metrics."},
        ],
        "paths": paths,
        "components": {"schemas": components(), "securitySchemes": _security_schemes()},
    }


def _security_schemes() -> Schema:
    return {
        "bearer": {"type": "http", "scheme": "bearer"},
        "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "googApiKey": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
        "keyParameter": {"type": "apiKey", "in": "query", "name": "key"},
    }


def _in_path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _in_query(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _openai_operations() -> list[_Public]:
    error, response_id = "OpenAIError", (_in_path("id"),)
    return [
        _Public("post", "/v1/chat/completions", "Answer a conversation.", error, "ChatCompletion",
                "ChatCompletionRequest", streams=True),
        _Public("post", "/v1/completions", "Continue a text.", error, "Completion", "CompletionRequest",
                streams=True),
        _Public("post", "/v1/embeddings", "Turn texts into vectors.", error, "Embeddings", "EmbeddingRequest"),
        _Public("get", "/v1/models", "List the models.", error, "OpenAIModels"),
        _Public("get", "/v1/models/{model}", "Describe a model.", error, "OpenAIModel",
                parameters=(_in_path("model"),)),
        _Public("post", "/v1/responses", "Answer and remember.", error, "Response", "ResponseRequest",
                streams=True),
        _Public("post", "/v1/responses/input_tokens", "Count a response's input tokens.", error,
                "ResponseInputTokens", "ResponseRequest"),
        _Public("get", "/v1/responses/{id}", "Read a stored response.", error, "Response", parameters=response_id),
        _Public("delete", "/v1/responses/{id}", "Forget a stored response.", error, "ResponseDeleted",
                parameters=response_id),
        _Public("post", "/v1/responses/{id}/cancel", "Cancel a response.", error, "Response",
                parameters=response_id),
        _Public("get", "/v1/requests/{id}/energy", "Read what a request took.", error, "EnergyRecord",
                parameters=response_id),
    ]  # fmt: skip


def _anthropic_operations() -> list[_Public]:
    version = {"name": "anthropic-version", "in": "header", "required": False, "schema": {"type": "string"}}
    error, headers = "AnthropicError", (version,)
    return [
        _Public("post", "/v1/messages", "Write the next message.", error, "Message", "MessageRequest",
                streams=True, parameters=headers),
        _Public("post", "/v1/messages/count_tokens", "Count a message's tokens.", error, "CountedTokens",
                "CountTokensRequest", parameters=headers),
    ]  # fmt: skip


def _gemini_operations() -> list[_Public]:
    error, model = "GeminiError", (_in_path("model"),)
    found = [
        _Public("get", "/v1beta/models", "List the models.", error, "GeminiModels",
                parameters=(_in_query("pageSize", {"type": "integer", "minimum": 1, "maximum": 1000}),
                            _in_query("pageToken", {"type": "string"}))),
        _Public("get", "/v1beta/models/{model}", "Describe a model.", error, "GeminiModel", parameters=model),
    ]  # fmt: skip
    for version in ("v1beta", "v1"):
        base = f"/{version}/models/{{model}}"
        for action, (body, answer, summary) in GEMINI_ACTIONS.items():
            found.append(_Public("post", f"{base}:{action}", summary, error, answer, body, parameters=model))
        form = _in_query("alt", {"enum": ["sse", "json"]})
        found.append(
            _Public("post", f"{base}:streamGenerateContent", "Generate an answer piece by piece.", error,
                    "GenerateContentResponse", "GenerateContentRequest", streams=True, parameters=(*model, form))
        )  # fmt: skip
    return found


def _public_operations() -> list[_Public]:
    return _openai_operations() + _anthropic_operations() + _gemini_operations()


def _json_content(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _public_operation(operation: _Public) -> Schema:
    content = _json_content(ref(operation.answer))
    if ":stream" in operation.path:
        content = _json_content({"type": "array", "items": ref(operation.answer)})
    if operation.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    described: Schema = {
        "tags": ["public"],
        "operationId": _operation_id(operation.method, operation.path),
        "summary": operation.summary,
        "security": [{"bearer": []}, {"xApiKey": []}, {"googApiKey": []}, {"keyParameter": []}],
        "responses": {"200": {"description": operation.summary, "content": content}}
        | _refusals(REFUSALS, operation.error),
    }
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body:
        described["requestBody"] = {"required": True, "content": _json_content(ref(operation.body))}
    return described


def _operation_id(method: str, path: str) -> str:
    words = path.replace(":", "/").replace("{", "").replace("}", "").strip("/").replace(".", "/").split("/")
    return "_".join([method, *words])


def _refusals(table: dict[int, str], error: str) -> Schema:
    return {
        str(status): {"description": meaning, "content": _json_content(ref(error))}
        for status, meaning in table.items()
    }


def _console_paths() -> Schema:
    """Describe the console's endpoints: what is read, the login, and the probes."""
    before = _in_query("before", {"type": "number"})
    limit = _in_query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50})
    group = _in_query(
        "group", {"enum": ["request", "tenant", "key", "model", "region", "day"], "default": "request"}
    )
    ready = _read("/readyz", "Say whether a prompt would be let in now.", ref("Ready"), _in_query("verbose", {}))
    ready["responses"]["503"] = {"description": "Not now.", "content": _json_content(ref("Ready"))}
    for answer in (ready["responses"]["200"], ready["responses"]["503"]):
        answer["content"]["text/plain"] = {"schema": {"type": "string"}}
    live = _read("/livez", "Say that the process answers.", ref("Live"))
    live["responses"]["200"]["content"]["text/plain"] = {"schema": {"type": "string"}}
    metrics = _read("/metrics", "The metrics, in Prometheus text.", ANY_OBJECT)
    metrics["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    for probe in (live, ready, metrics):
        probe["security"] = [{}, {"bearer": []}]  # callers on this machine need no key
    return {
        "/api/session": {
            "get": _read("/api/session", "Where to send prompts, and with which key.", ref("Session")),
            "post": _log_in(),
            "delete": _log_out(),
        },
        "/api/platform": {"get": _read("/api/platform", "The platform in one line.", ref("PlatformRow"))},
        "/api/replicas": {"get": _read("/api/replicas", "Every replica.", _list_of("ReplicaRow"))},
        "/api/replicas/drain": {"post": _drain()},
        "/api/journeys": {
            "get": _read("/api/journeys", "Journeys, latest first.", _list_of("Journey"), limit, before)
        },
        "/api/journeys/{id}": {"get": _read("/api/journeys/{id}", "One journey.", ref("Journey"), _in_path("id"))},
        "/api/ledger": {
            "get": _read("/api/ledger", "Charges and energy, one by one or summed.", _list_of("LedgerRow"), group)
        },
        "/openapi.json": {"get": _read("/openapi.json", "This description.", ANY_OBJECT)},
        "/livez": {"get": live},
        "/readyz": {"get": ready},
        "/metrics": {"get": metrics},
    }


def _list_of(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def _read(path: str, summary: str, answer: Schema, *parameters: Schema) -> Schema:
    described: Schema = {
        "tags": ["console"],
        "operationId": _operation_id("get", path),
        "summary": summary,
        "security": [{"bearer": []}],
        "responses": {"200": {"description": summary, "content": _json_content(answer)}}
        | _refusals(CONSOLE_REFUSALS, "ConsoleError"),
    }
    return described | ({"parameters": list(parameters)} if parameters else {})


def _drain() -> Schema:
    summary = "Take a replica out of service, or put it back."
    return {
        "tags": ["console"],
        "operationId": "post_api_replicas_drain",
        "summary": summary,
        "security": [{"bearer": []}],
        "requestBody": {"required": True, "content": _json_content(ref("Drain"))},
        "responses": {"200": {"description": summary, "content": _json_content(ref("ReplicaRow"))}}
        | _refusals(CONSOLE_REFUSALS, "ConsoleError"),
    }


def _log_in() -> Schema:
    return {
        "tags": ["console"],
        "operationId": "post_api_session",
        "summary": "Exchange a key for a session cookie.",
        "security": [],
        "requestBody": {"required": True, "content": _json_content(ref("Login"))},
        "responses": {"204": {"description": "Logged in; the cookie is set."}}
        | _refusals(CONSOLE_REFUSALS, "ConsoleError"),
    }


def _log_out() -> Schema:
    return {
        "tags": ["console"],
        "operationId": "delete_api_session",
        "summary": "End the session.",
        "security": [],
        "responses": {"204": {"description": "Logged out."}} | _refusals(CONSOLE_REFUSALS, "ConsoleError"),
    }
