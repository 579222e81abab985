"""What a replica is: its engine's rules, its step times, and who asks for how many accelerators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from underlay.physics import catalogue, profiles
from underlay.physics.catalogue import Parallelism
from underlay.physics.profiles import Profile
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.needs import accelerator_in, accelerators_of, replicas_in
from underlay.twin.scenario.served import EngineSection, ModelSection

_PAGED_STEP_TOKENS, _SLOTTED_STEP_TOKENS = 8192, 2048
_PAGED_LINK_TOKENS, _SLOTTED_LINK_TOKENS = 512, 32


class Replica(NamedTuple):
    """One replica to be placed: which model's (by its place in the scenario), where, on how many of what."""

    name: str
    model: int
    region: str
    accelerator: str
    accelerators: int


def replicas(scenario: Scenario) -> Iterator[Replica]:
    """All replicas of a scenario, the largest first, so that the small ones do not take the room of large ones."""
    order = sorted(range(len(scenario.models)), key=lambda place: -accelerators_of(scenario.models[place]))
    for place in order:
        model = scenario.models[place]
        for region in scenario.world.regions:
            kind = accelerator_in(model, region, scenario.world)
            for number in range(1, replicas_in(model, region.name) + 1):
                name = f"{model.name}-{region.name}-{number}"
                yield Replica(name, place, region.name, kind, accelerators_of(model))


def profile(model: ModelSection, accelerator: str) -> Profile:
    """The step times of a model on an accelerator. Errors: NotFound, BadRequest (``param`` says about what)."""
    if model.profile is not None:
        return profiles.read(model.profile)
    engine = "vllm" if model.engine.kind == "vllm" else "llama.cpp"
    return profiles.find(accelerator, model.model, model.parallelism, model.precision, engine=engine)


def kv_tokens(model: ModelSection, accelerator: str) -> int:
    """How many tokens the KV cache of a replica holds. Errors: as ``profile``."""
    engine = _as_started(model)
    if engine.blocks is not None:
        return engine.blocks * engine.block_tokens
    return catalogue.kv_capacity_tokens(
        catalogue.accelerator(accelerator),
        catalogue.model(model.model),
        Parallelism.parse(model.parallelism),
        model.precision,
        memory_share=engine.memory_share,
    )


def rules(model: ModelSection, accelerator: str) -> PagedRules | SlotRules:
    """What a replica's engine goes by. Errors: as ``profile``; ValueError for rules that contradict each other."""
    engine = _as_started(model)
    if engine.kind == "llamacpp":
        return SlotRules(
            slots=engine.slots,
            slot_tokens=model.context_tokens,
            step_tokens=engine.step_tokens or _SLOTTED_STEP_TOKENS,
            link_tokens=link_tokens(model),
        )
    return PagedRules(
        blocks=kv_tokens(model, accelerator) // engine.block_tokens,
        max_sequences=engine.max_sequences,
        step_tokens=engine.step_tokens or _PAGED_STEP_TOKENS,
        block_tokens=engine.block_tokens,
        context_tokens=model.context_tokens,
        prefix_caching=engine.prefix_caching,
        link_tokens=link_tokens(model),
    )


def link_tokens(model: ModelSection) -> int:
    """What one link of a prompt's chain stands for, in crowds as in engines."""
    usual = _PAGED_LINK_TOKENS if model.engine.kind == "vllm" else _SLOTTED_LINK_TOKENS
    return model.engine.link_tokens or usual


def _as_started(model: ModelSection) -> EngineSection:
    """The engine as the scenario says; what that leaves open, as it was when its profile was taken."""
    engine = model.engine
    told = profiles.read(model.profile).rules if model.profile is not None else None
    if told is None:
        return engine
    hints = {name: value for name, value in msgspec.structs.asdict(told).items() if value is not None}
    return engine.model_copy(
        update={
            name: value
            for name, value in hints.items()
            if name in type(engine).model_fields and name not in engine.model_fields_set
        }
    )
