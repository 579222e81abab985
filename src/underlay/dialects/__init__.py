"""The ways callers speak, each turned into the domain's words and back: bytes in, bytes out, no sockets.

``choose`` finds the route of a request from its first line and headers; ``DIALECTS[route.dialect]`` then
speaks for it, even if the route is ``unknown``, so that an error comes in the shape its caller reads.
"""

from __future__ import annotations

from underlay.dialects.anthropic import ANTHROPIC
from underlay.dialects.gemini import GEMINI
from underlay.dialects.openai import OPENAI
from underlay.dialects.routes import choose, credentials, without_credentials
from underlay.dialects.wire import Dialect, Refusal, Route, Writer

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (OPENAI, ANTHROPIC, GEMINI)}

__all__ = [
    "DIALECTS", "Dialect", "Refusal", "Route", "Writer", "choose", "credentials", "without_credentials",
]  # fmt: skip
