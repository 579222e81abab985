"""The Anthropic dialect: the Messages API, as its official SDKs speak and expect it."""

from __future__ import annotations

from underlay.dialects.anthropic.ignored import IGNORED
from underlay.dialects.anthropic.speaker import ANTHROPIC, Anthropic

__all__ = ["ANTHROPIC", "IGNORED", "Anthropic"]
