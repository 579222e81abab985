"""Who asks, as ``crowd`` takes it: sections become its own, one to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct
from pydantic import BaseModel

from underlay.domain.errors import BadRequest
from underlay.physics import round_trips
from underlay.twin.crowd import arrivals, lengths, rates, spreads, tenants
from underlay.twin.crowd.deferrable import Deferrable, Patient
from underlay.twin.crowd.impatience import Impatience, Impatient
from underlay.twin.crowd.journal.crowd import Journal
from underlay.twin.crowd.open_loop import OpenLoop
from underlay.twin.crowd.section import KnownCrowd
from underlay.twin.crowd.servegen import ServeGen
from underlay.twin.crowd.sessions import Sessions
from underlay.twin.crowd.traces import Trace
from underlay.twin.scenario.build_models import link_tokens
from underlay.twin.scenario.crowds import ClientsSection, CrowdSection, LengthsSection
from underlay.twin.scenario.document import Scenario
from underlay.twin.scenario.served import ModelSection
from underlay.twin.scenario.world import RegionSection
from underlay.twin.world.mistake import ScenarioMistake

Steps = tuple[str | int, ...]
Made = TypeVar("Made", bound=Struct)

_DEFAULT_LENGTHS = "sharegpt"
_PROCESSES: dict[str, Any] = {
    "poisson": arrivals.Poisson,
    "gamma": arrivals.GammaGaps,
    "weibull": arrivals.WeibullGaps,
    "even": arrivals.Even,
}
_SHAPES: dict[str, Any] = {"ramp": rates.Ramp, "steps": rates.Steps, "surge": rates.Surge, "diurnal": rates.Diurnal}
_SPREADS: dict[str, Any] = {
    "fixed": spreads.Fixed,
    "exponential": spreads.Exponential,
    "geometric": spreads.Geometric,
    "lognormal": spreads.Lognormal,
    "gamma": spreads.Gamma,
    "quantiles": spreads.Quantiles,
}


class Callers(NamedTuple):
    """A crowd, and everybody in it with the band of each, as platforms must know them."""

    name: str
    crowd: KnownCrowd
    tenants: dict[str, str]


def crowds(scenario: Scenario) -> list[Callers]:
    """All crowds. Errors: ScenarioMistake, with the way to what is wrong."""
    return [callers(scenario, place) for place in range(len(scenario.crowds))]


def callers(scenario: Scenario, place: int) -> Callers:
    """One crowd, by its place in the scenario. Errors: ScenarioMistake."""
    section, steps = scenario.crowds[place], ("crowds", place)
    name = section.name or f"crowd{place + 1}"
    model = section.model or scenario.models[0].name
    crowd: KnownCrowd
    if section.trace is not None:
        crowd = _trace(scenario, section, model, steps)
    elif section.clients is not None:
        crowd = _clients(scenario, section, model, steps)
    elif section.journal is not None:
        crowd = _journal(scenario, section, model, steps)
    else:
        crowd = _generated(scenario, section, name, model, steps).across(_regions(scenario, section))
    known = crowd.tenant_bands()
    if section.impatience is not None:
        patience = _spread(section.impatience.patience, (*steps, "impatience", "patience"))
        rules = _made(Impatience, section.impatience, (*steps, "impatience"), patience_s=patience)
        crowd = Impatient(crowd, rules)
    if section.deferrable is not None:
        crowd = Patient(crowd, _made(Deferrable, section.deferrable, (*steps, "deferrable")))
    return Callers(name, crowd, known)


def utc_offset_h(region: RegionSection) -> float:
    """How far a region's clocks are before UTC: as it says, else by its longitude, a zone for each 15 degrees."""
    if region.utc_offset_h is not None:
        return region.utc_offset_h
    return float(round(round_trips.position(region.like).longitude / 15.0)) if region.like else 0.0


def _regions(scenario: Scenario, section: CrowdSection) -> tuple[tenants.Region, ...]:
    """Where its callers are."""
    chosen = [region for region in scenario.world.regions if section.region in {None, region.name}]
    weights = [1.0 if region.clients is None or section.region else region.clients for region in chosen]
    return tuple(
        tenants.Region(name=region.name, weight=weight, utc_offset_h=utc_offset_h(region))
        for region, weight in zip(chosen, weights, strict=True)
        if weight
    )


def _trace(scenario: Scenario, section: CrowdSection, model: str, steps: Steps) -> Trace:
    assert section.trace is not None
    at = (*steps, "trace")
    who = _tenants(section, steps)
    named = _recorded(section.trace, at)
    regions = _regions(scenario, section)
    links = link_tokens(_served(scenario, model))
    return _made(
        Trace, section.trace, at, trace=named, tenants=who, regions=regions, model=model, link_tokens=links
    )


def _clients(scenario: Scenario, section: CrowdSection, model: str, steps: Steps) -> ServeGen:
    told = section.clients
    assert told is not None
    at = (*steps, "clients")
    named = _recorded(told, at)
    region = section.region or scenario.world.regions[0].name
    tenant = section.name or "client"
    return _made(ServeGen, told, at, clients=named, tenant=tenant, region=region, model=model)


def _journal(scenario: Scenario, section: CrowdSection, model: str, steps: Steps) -> Journal:
    assert section.journal is not None
    return _made(
        Journal,
        section.journal,
        (*steps, "journal"),
        model=model,
        models=() if section.model else tuple(served.name for served in scenario.models),
        region=section.region or scenario.world.regions[0].name,
        link_tokens=link_tokens(_served(scenario, model)),
    )


def _generated(
    scenario: Scenario, section: CrowdSection, name: str, model: str, steps: Steps
) -> OpenLoop | Sessions:
    served = _served(scenario, model)
    told: dict[str, Any] = {
        "arrivals": _arrivals(scenario, section, (*steps, "arrivals")),
        "tenants": _tenants(section, steps) or (tenants.Tenant(name=name),),
        "model": model,
        "link_tokens": link_tokens(served),
    }
    if section.sessions is None:
        return _checked(OpenLoop, steps, lengths=_lengths(section, steps), **told)
    at = (*steps, "sessions")
    return _checked(
        Sessions,
        steps,
        turns=_spread(section.sessions.turns, (*at, "turns")),
        question=_spread(section.sessions.question_tokens, (*at, "question_tokens")),
        answer=_spread(section.sessions.answer_tokens, (*at, "answer_tokens")),
        think_s=_spread(section.sessions.think, (*at, "think")),
        context_tokens=served.context_tokens,
        **told,
    )


def _arrivals(scenario: Scenario, section: CrowdSection, steps: Steps) -> arrivals.Arrivals:
    told = section.arrivals
    assert told is not None
    shapes: list[rates.Shape] = []
    for place, shape in enumerate(told.over_time):
        more = {"begins_hour": scenario.world.start_utc_h} if shape.kind == "diurnal" else {}
        shapes.append(_made(_SHAPES[shape.kind], shape, (*steps, "over_time", place), **more))
    process: arrivals.Process = _made(_PROCESSES[told.process.kind], told.process, (*steps, "process"))
    return _made(arrivals.Arrivals, told, steps, process=process, over_time=tuple(shapes))


def _lengths(section: CrowdSection, steps: Steps) -> lengths.Lengths:
    if section.prompt_tokens is not None and section.output_tokens is not None:
        prompt = _spread(section.prompt_tokens, (*steps, "prompt_tokens"))
        output = _spread(section.output_tokens, (*steps, "output_tokens"))
        return lengths.Separate(prompt=prompt, output=output)
    told = section.lengths or LengthsSection(name=_DEFAULT_LENGTHS)
    at = (*steps, "lengths")
    return _made(lengths.Recorded, told, at, trace=_recorded(told, at))


def _spread(section: Any, steps: Steps) -> Any:
    return None if section is None else _made(_SPREADS[section.kind], section, steps)


def _tenants(section: CrowdSection, steps: Steps) -> tuple[tenants.Tenant, ...]:
    return tuple(
        _made(tenants.Tenant, tenant, (*steps, "tenants", place)) for place, tenant in enumerate(section.tenants)
    )


def _recorded(section: LengthsSection | ClientsSection, steps: Steps) -> str:
    if (section.name is None) == (section.path is None):
        raise ScenarioMistake(steps, "say the name of a trace or the path to one")
    return section.name if section.name is not None else str(section.path)


#: Fields that are called otherwise, because they carry no unit where units may be written.
_CALLED = {"lasts": "for_s"}


def _made(kind: type[Made], section: BaseModel, steps: Steps, **more: Any) -> Made:
    """The runtime's own section: fields of the same name, times with their unit behind it."""
    fields: Sequence[str] = kind.__struct_fields__
    values = {}
    for name in type(section).model_fields:
        called = _CALLED.get(name, name if name in fields else f"{name}_s")
        value = getattr(section, name)
        if called in fields and value is not None:
            values[called] = value
    return _checked(kind, steps, **{**values, **more})


def _checked(kind: type[Made], steps: Steps, **values: Any) -> Made:
    try:
        return kind(**values)
    except ValueError as error:
        raise ScenarioMistake(steps, str(error)) from None
    except BadRequest as error:
        raise ScenarioMistake(steps, error.message) from None


def _served(scenario: Scenario, model: str) -> ModelSection:
    """The model that callers mean by a name; the first if there is none so called, which is told elsewhere."""
    return next((served for served in scenario.models if served.name == model), scenario.models[0])
