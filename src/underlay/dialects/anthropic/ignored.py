"""Documented request fields that are accepted and have no effect here, each with the reason."""

from __future__ import annotations

IGNORED: dict[str, str] = {
    "cache_control": "Prefixes are cached automatically; no breakpoints are needed.",
    "citations": "Answers carry no citations.",
    "context_management": "The conversation is sent to the model as it is.",
    "diagnostics": "Cache hits are reported in usage; why a prefix missed is in the request's journey.",
    "mcp_servers": "An empty list asks for nothing.",
    "output_config.effort": "Models here have no levels of effort.",
    "speed": "Every request runs as fast as its replica can.",
    "thinking": "Models here do not think apart from their answer.",
    "tools[].allowed_callers": "Tools are only ever called directly.",
    "tools[].cache_control": "Prefixes are cached automatically; no breakpoints are needed.",
    "tools[].defer_loading": "Every tool is in the prompt from the start.",
    "tools[].eager_input_streaming": "Tool input is always streamed as it is made.",
    "tools[].input_examples": "Put examples into the tool's description.",
    "tools[].strict": "Whether a tool's schema is enforced depends on the engine.",
    "user_profile_id": "The key, not the request, says who is asking.",
    "workspace_id": "The key belongs to exactly one tenant.",
}
