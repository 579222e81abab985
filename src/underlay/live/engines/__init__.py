"""Engines: how each kind is asked and read. ``adapter_for`` is the one place that knows which is which."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

from underlay.live.engines.adapter import Adapter
from underlay.live.engines.gguf import has_chat_template
from underlay.live.engines.llamacpp import LlamaCpp
from underlay.live.engines.openai import OpenAICompatible
from underlay.live.settings import EngineSettings, ModelSettings


def template_of(engine: EngineSettings) -> Literal["transcript", "model"]:
    """How conversations become text: as set, else the GGUF's own template if it has one, else a transcript.

    A llama.cpp server that was started elsewhere knows its own model; it is trusted to have a template.
    """
    if engine.template is not None:
        return engine.template
    if engine.addresses:
        return "model"
    return "model" if engine.path is not None and has_chat_template(engine.path) else "transcript"


def _llamacpp(model: ModelSettings) -> Adapter:
    return LlamaCpp(model.engine.upstream_model or model.name, template_of(model.engine))


def _openai(model: ModelSettings) -> Adapter:
    engine = model.engine
    path = urlsplit(engine.addresses[0]).path if engine.addresses else ""
    return OpenAICompatible(
        engine.upstream_model or model.name,
        api_key=os.environ.get(engine.api_key_env, "") if engine.api_key_env else "",
        prefix=path.rstrip("/").removesuffix("/v1"),
        cache_salt=engine.cache_salt,
    )


_ADAPTERS: dict[str, Callable[[ModelSettings], Adapter]] = {"llamacpp": _llamacpp, "openai": _openai}


def adapter_for(model: ModelSettings) -> Adapter:
    """Make the adapter of the engine that serves ``model``."""
    return _ADAPTERS[model.engine.kind](model)


__all__ = ["adapter_for", "template_of"]
