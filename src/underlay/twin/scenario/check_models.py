"""Does every model exist, fit its accelerators, and find as many of them as it asks for?"""

from __future__ import annotations

from collections.abc import Iterator

from underlay.documents.findings import Mistake, Steps, unknown
from underlay.domain.errors import BadRequest, NotFound
from underlay.physics import catalogue
from underlay.physics.catalogue import Parallelism
from underlay.twin.scenario import build_models
from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.needs import (
    accelerator_in,
    accelerators_of,
    asked,
    placed,
    replicas_in,
    server_type,
    servers_for,
)
from underlay.twin.scenario.served import EACH, ModelSection
from underlay.twin.scenario.world import RegionSection


def model_mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """What is wrong with the models, by themselves and in the world they are put in."""
    seen: dict[str, int] = {}
    broken = False
    for place, model in enumerate(scenario.models):
        at: Steps = ("models", place)
        first = seen.setdefault(model.name, place)
        if first != place:
            yield Mistake((*at, "name"), f"models.{first} is called '{model.name}' already")
        if build_models.link_tokens(model) != build_models.link_tokens(scenario.models[0]):
            said = (
                f"prompts have one link for each {build_models.link_tokens(scenario.models[0])} tokens for models.0"
            )
            yield Mistake(
                (*at, "engine", "link_tokens"), f"{said}; a platform links them once: say the same for all"
            )
        for steps, message in _one(scenario, model):
            broken = True
            yield Mistake((*at, *steps), message)
    if not broken:
        yield from _room(scenario)


def _one(scenario: Scenario, model: ModelSection) -> Iterator[Mistake]:
    regions = [region.name for region in scenario.world.regions]
    for region in model.replicas:
        if region != EACH and region not in regions:
            yield Mistake(("replicas", region), unknown("region", region, [EACH, *regions]))
    if model.model not in catalogue.models():
        yield Mistake(("model",), unknown("model", model.model, catalogue.models()))
        return
    if model.accelerator is not None and model.accelerator not in catalogue.accelerators():
        yield Mistake(("accelerator",), unknown("accelerator", model.accelerator, catalogue.accelerators()))
        return
    kinds = [accelerator_in(model, region, scenario.world) for region in scenario.world.regions]
    for kind in dict.fromkeys(kinds):
        if kind in catalogue.accelerators():
            yield from _on(model, kind)


def _on(model: ModelSection, kind: str) -> Iterator[Mistake]:
    """What is wrong with a model on one kind of accelerator."""
    try:
        split = Parallelism.parse(model.parallelism)
        tokens = build_models.kv_tokens(model, kind)
        build_models.profile(model, kind)
        build_models.rules(model, kind)
    except NotFound as error:
        yield Mistake((error.param or "model",), error.message)
    except BadRequest as error:
        fitting = _fitting(model, kind) if error.param == "parallelism" else ""
        yield Mistake((error.param or "model",), error.message + fitting)
    except ValueError as error:
        yield Mistake(("engine",), str(error))
    else:
        heads = catalogue.model(model.model).heads
        if heads % split.tensor:
            yield Mistake(("parallelism",), f"{heads} heads of {model.model} cannot be split by {split.tensor}")
        if model.engine.kind == "vllm" and tokens < model.context_tokens:
            yield Mistake(
                ("context_tokens",),
                f"the KV cache of a replica on {kind} holds {tokens:,} tokens, fewer than one request of"
                f" {model.context_tokens:,}: vLLM would not start. Lower context_tokens or split over more.",
            )


def _fitting(model: ModelSection, kind: str) -> str:
    """What would fit instead."""
    on, of = catalogue.accelerator(kind), catalogue.model(model.model)
    ways = []
    for precision in dict.fromkeys([model.precision, "fp8"]):
        for tensor in (1, 2, 4, 8, 16):
            share = model.engine.memory_share
            try:
                catalogue.kv_capacity_tokens(on, of, Parallelism(tensor), precision, memory_share=share)
                on.flop_s(precision)
            except BadRequest:
                continue
            ways.append(f"tp{tensor} in {precision}")
            break
    return f" It would fit as {' or '.join(ways)}." if ways else ""


def _room(scenario: Scenario) -> Iterator[Mistake]:
    """Where more is asked for than there is."""
    for region in scenario.world.regions:
        servers = placed(region, scenario.world, scenario.models)
        kinds = {name: server_type(scenario.world, name) for name in servers}
        for accelerator, sizes in asked(scenario.models, region, scenario.world).items():
            here = [kind for kind in kinds.values() if kind.accelerator == accelerator]
            if not here:
                there_is = ", ".join(sorted({kind.accelerator for kind in kinds.values()}))
                said = f"no {accelerator} stands in {region.name}; there is: {there_is}"
                yield Mistake(_first(scenario, region, accelerator, 0), said)
                continue
            largest = max(kind.accelerators for kind in here)
            if max(sizes) > largest:
                yield Mistake(
                    (*_first(scenario, region, accelerator, max(sizes))[:2], "parallelism"),
                    f"one replica takes {max(sizes)} accelerators, a server in {region.name} has {largest}:"
                    " the links between servers are slower than what step times are known for",
                )
                continue
            there = sum(servers[kind.name] * kind.accelerators for kind in here)
            need = servers_for(sizes, largest)
            if need > sum(servers[kind.name] for kind in here):
                wanted = sum(size * count for size, count in sizes.items())
                yield Mistake(
                    _first(scenario, region, accelerator, 0),
                    f"{wanted:,} x {accelerator} are asked for in {region.name} ({need:,} servers of {largest}),"
                    f" {there:,} stand there ({there // largest:,} servers)",
                )


def _first(scenario: Scenario, region: RegionSection, accelerator: str, size: int) -> Steps:
    """The first model that asks for such accelerators in a region, for at least so many at a time."""
    for place, model in enumerate(scenario.models):
        asks = replicas_in(model, region.name) and accelerators_of(model) >= size
        if asks and accelerator_in(model, region, scenario.world) == accelerator:
            return ("models", place, "replicas" if not size else "parallelism")
    return ("models",)
