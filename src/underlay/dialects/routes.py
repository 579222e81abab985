"""Which dialect and which thing a request is for, and which secrets it carries.

Only the path decides, then headers for the paths that several vendors share. The credential's carrier never
decides: one vendor's SDK may send its key in another vendor's header.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, unquote_plus

from underlay.dialects.wire import Route

VERSIONS = frozenset({"v1", "v1beta", "v1alpha", "v1beta1"})
GEMINI_VERSIONS = VERSIONS - {"v1"}

#: A Gemini path ends in ``:action``.
GEMINI_ACTIONS = {
    "generateContent": "generate",
    "streamGenerateContent": "stream_generate",
    "countTokens": "count_tokens",
    "embedContent": "embed",
    "batchEmbedContents": "batch_embed",
}

#: Paths below the version that are always the same: (dialect, name).
POSTED = {
    ("chat", "completions"): ("openai", "chat"),
    ("completions",): ("openai", "completions"),
    ("embeddings",): ("openai", "embeddings"),
    ("responses",): ("openai", "responses"),
    ("responses", "input_tokens"): ("openai", "response_input_tokens"),
    ("messages",): ("anthropic", "messages"),
    ("messages", "count_tokens"): ("anthropic", "count_tokens"),
}

#: The first segment gives away the dialect even of a path that does not exist.
DIALECT_OF_FIRST = {
    "chat": "openai",
    "completions": "openai",
    "embeddings": "openai",
    "responses": "openai",
    "messages": "anthropic",
}

CREDENTIAL_PARAMETER = "key"


def choose(method: str, path: str, query: str, headers: Mapping[str, str]) -> Route:
    """Find the route; what is not known is the route ``unknown``, never an exception.

    ``path`` is still percent-encoded, ``query`` is what follows the question mark, header names are
    lower-case.
    """
    known = _FAST.get((method, path))
    if known is not None and not query:
        return known
    parameters = _parameters(query)
    segments = _segments(path)
    if segments is None:
        return Route(_shared_dialect((), query, headers), "unknown", query=parameters)
    rest = _below_version(segments)
    found = (
        _posted(method, rest)
        or _gemini_action(method, rest)
        or _response(method, rest)
        or _request_energy(method, rest, segments, query, headers)
        or _models(method, rest, segments, query, headers)
        or Route(DIALECT_OF_FIRST.get(rest[0] if rest else "") or "", "unknown")
    )
    return Route(
        found.dialect or _shared_dialect(segments, query, headers),
        found.name,
        model=found.model,
        id=found.id,
        query=parameters,
        allow=found.allow,
    )


def credentials(path_query: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """All distinct secrets that a request offers, by whatever carrier.

    ``path_query`` is its target (``/path?query``) or the query alone.
    """
    offered = [_bearer(headers.get("authorization", ""))]
    offered.append(headers.get("x-api-key", "").strip())
    offered.append(headers.get("x-goog-api-key", "").strip())
    query = path_query.partition("?")[2] if path_query.startswith("/") else path_query
    if query:
        offered += [value.strip() for name, value in parse_qsl(query) if name == CREDENTIAL_PARAMETER]
    return tuple(dict.fromkeys(secret for secret in offered if secret))


def without_credentials(query: str) -> str:
    """The query string as it may be logged or traced: everything but the secret, otherwise untouched."""
    return "&".join(part for part in query.split("&") if not _is_credential(part))


def _is_credential(part: str) -> bool:
    return unquote_plus(part.partition("=")[0]) == CREDENTIAL_PARAMETER


def _bearer(authorization: str) -> str:
    scheme, _, secret = authorization.strip().partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _parameters(query: str) -> dict[str, str]:
    if not query:
        return {}
    pairs = parse_qsl(query, keep_blank_values=True)
    return {name: value for name, value in pairs if name != CREDENTIAL_PARAMETER}


def _segments(path: str) -> tuple[str, ...] | None:
    """The path's segments, decoded exactly once; ``None`` if it must not be matched with anything."""
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return None
    if not decoded.isprintable():  # control characters, and nothing that a model's name could need
        return None
    segments = tuple(segment for segment in decoded.split("/") if segment)
    return None if "." in segments or ".." in segments else segments


def _below_version(segments: tuple[str, ...]) -> tuple[str, ...]:
    """What follows the version. A base URL with the version typed twice, or not at all, means the same."""
    start = 0
    while start < len(segments) and segments[start] in VERSIONS:
        start += 1
    return segments[start:]


def _shared_dialect(segments: tuple[str, ...], query: str, headers: Mapping[str, str]) -> str:
    """Whose error or list shape the caller expects on a path that the vendors share."""
    if "anthropic-version" in headers:
        return "anthropic"
    if "x-goog-api-key" in headers or "x-goog-api-client" in headers:
        return "gemini"
    if any(_is_credential(part) for part in query.split("&")):
        return "gemini"
    return "gemini" if segments and segments[0] in GEMINI_VERSIONS else "openai"


def _posted(method: str, rest: tuple[str, ...]) -> Route | None:
    known = POSTED.get(rest)
    if known is None:
        return None
    return Route(*known) if method == "POST" else Route(known[0], "wrong_method", allow="POST")


def _gemini_action(method: str, rest: tuple[str, ...]) -> Route | None:
    model, colon, action = "/".join(rest).rpartition(":")
    name = GEMINI_ACTIONS.get(action)
    if not colon or name is None:
        return None
    model = _bare_model(model)
    if rest[0] != "models" or not model:
        return Route("gemini", "unknown")
    if method != "POST":
        return Route("gemini", "wrong_method", model=model, allow="POST")
    return Route("gemini", name, model=model)


def _bare_model(name: str) -> str:
    """``m`` from ``models/m``, however often the prefix was put before it."""
    while name.startswith("models/"):
        name = name.removeprefix("models/")
    return name


def _response(method: str, rest: tuple[str, ...]) -> Route | None:
    if len(rest) == 2 and rest[0] == "responses":
        if method in ("GET", "HEAD", "DELETE"):
            return Route("openai", "response", id=rest[1])
        return Route("openai", "wrong_method", id=rest[1], allow="GET, HEAD, DELETE")
    if len(rest) == 3 and rest[0] == "responses" and rest[2] == "cancel":
        if method == "POST":
            return Route("openai", "response_cancel", id=rest[1])
        return Route("openai", "wrong_method", id=rest[1], allow="POST")
    return None


def _request_energy(
    method: str, rest: tuple[str, ...], segments: tuple[str, ...], query: str, headers: Mapping[str, str]
) -> Route | None:
    """The record of a request's energy; it is nobody's dialect, so errors take the shape that headers ask for."""
    if len(rest) != 3 or rest[0] != "requests" or rest[2] != "energy":
        return None
    dialect = _shared_dialect(segments, query, headers)
    if method in ("GET", "HEAD"):
        return Route(dialect, "request_energy", id=rest[1])
    return Route(dialect, "wrong_method", id=rest[1], allow="GET, HEAD")


def _models(
    method: str, rest: tuple[str, ...], segments: tuple[str, ...], query: str, headers: Mapping[str, str]
) -> Route | None:
    if not rest or rest[0] != "models":
        return None
    dialect = _shared_dialect(segments, query, headers)
    if method not in ("GET", "HEAD"):
        # A misspelt action under a model's name does not exist, whatever the method.
        name = "unknown" if method == "POST" and len(rest) > 1 else "wrong_method"
        return Route(dialect, name, allow="" if name == "unknown" else "GET, HEAD")
    model = "/".join(rest[1:])  # a model's name may itself hold slashes
    if dialect == "gemini":
        model = _bare_model(model)
    return Route(dialect, "model", model=model) if model else Route(dialect, "models")


#: The busiest routes by their exact usual spelling: one look-up instead of a walk.
_FAST = {("POST", "/v1/" + "/".join(rest)): Route(dialect, name) for rest, (dialect, name) in POSTED.items()}
