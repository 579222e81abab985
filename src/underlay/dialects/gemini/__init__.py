"""The Gemini dialect: generateContent and its kin, as Google's official SDKs speak and expect it."""

from __future__ import annotations

from underlay.dialects.gemini.ignored import IGNORED
from underlay.dialects.gemini.speaker import GEMINI, Gemini

__all__ = ["GEMINI", "IGNORED", "Gemini"]
