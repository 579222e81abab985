"""The models of a scenario: what is served, on what, by which engine, how often."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from underlay.documents.desk import PriceSettings
from underlay.documents.messages import shown
from underlay.documents.sections import Count, Section
from underlay.twin.scenario.values import ModelName, Name

#: The key of ``replicas`` for every region that is not named.
EACH = "each"


def _by_region(value: Any) -> Any:
    """``16`` is short for sixteen in each region."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {EACH: value}
    if isinstance(value, dict):
        return value
    told = {"given": shown(value)}
    raise PydanticCustomError("replicas", "expected a whole number or {region: number}, not {given}", told)


Replicas = Annotated[
    dict[Name, Annotated[int, Field(ge=0)]],
    BeforeValidator(_by_region),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
            ]
        }
    ),
]


class EngineSection(Section):
    """The engine of a replica, by what it is started with."""

    kind: Literal["vllm", "llamacpp"] = Field("vllm", description="vllm: paged memory; llamacpp: slots")
    max_sequences: Count = Field(256, description="vllm: sequences at a time (max_num_seqs)")
    step_tokens: Count | None = Field(
        None,
        description="tokens in a step (max_num_batched_tokens, n_batch); none: 8192 for vllm, 2048 for llamacpp",
    )
    memory_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="vllm: part of the accelerator's memory it may use (gpu_memory_utilization)"
    )
    blocks: Count | None = Field(
        None, description="vllm: blocks of KV cache as the engine reported them; none: reckoned from the memory"
    )
    block_tokens: Count = Field(16, description="vllm: tokens of a block")
    prefix_caching: bool = Field(True, description="vllm: keep beginnings of prompts for who begins alike")
    slots: Count = Field(4, description="llamacpp: sequences at a time (n_parallel)")
    link_tokens: Count | None = Field(
        None, description="tokens that one link of a prompt's chain stands for; none: 512 for vllm, 32 for llamacpp"
    )


class ModelSection(Section):
    """A model that callers can name, and its replicas."""

    name: ModelName = Field("chat", description="what callers call it")
    model: str = Field("llama-3.1-8b", description="the model itself, by the catalogue's id")
    accelerator: str | None = Field(
        None, description="the accelerators it stands on, by id; none: those of each region's servers"
    )
    precision: Literal["bf16", "fp8", "fp4", "mxfp4"] = Field("bf16", description="of its weights")
    parallelism: str = Field("tp1", description="accelerators of one replica: tp4; of a mixture of experts: tp8ep8")
    replicas: Replicas = Field(
        default_factory=lambda: {EACH: 1},
        description="how many in each region: a number, or {west: 8, east: 4}",
    )
    context_tokens: Count = Field(8192, description="prompt and answer together, per request")
    engine: EngineSection = EngineSection()
    price: PriceSettings = PriceSettings()
    profile: Path | None = Field(
        None, description="a file with its step times from 'underlay calibrate'; none: the profiles that ship"
    )
