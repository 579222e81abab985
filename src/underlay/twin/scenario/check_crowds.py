"""Does everybody who asks know how, whom and when?"""

from __future__ import annotations

from collections.abc import Iterator

from underlay.documents.findings import Mistake, Steps, unknown
from underlay.domain.errors import BadRequest
from underlay.twin.crowd import trace_files
from underlay.twin.crowd.journal.survey import survey
from underlay.twin.scenario import build_crowds
from underlay.twin.scenario.crowds import CrowdSection, LengthsSection
from underlay.twin.scenario.document import Scenario
from underlay.twin.world.mistake import ScenarioMistake


def crowd_mistakes(scenario: Scenario, *, world_stands: bool) -> Iterator[Mistake]:
    """What is wrong with the crowds, by themselves and, if it stands, in the world they call."""
    for place, crowd in enumerate(scenario.crowds):
        at: Steps = ("crowds", place)
        found = [*_sources(crowd), *_names(scenario, crowd), *_times(scenario, crowd), *_traces(crowd)]
        yield from (Mistake((*at, *steps), message) for steps, message in found)
        if found or not world_stands:
            continue
        try:
            callers = build_crowds.callers(scenario, place)
            callers.crowd.check()
            yield from (Mistake((*at, *steps), message) for steps, message in _bands(scenario, crowd))
        except ScenarioMistake as mistake:
            yield Mistake(mistake.steps, mistake.message)
        except BadRequest as error:
            yield Mistake((*at, *_way(crowd, error.param)), str(error))


def _way(crowd: CrowdSection, param: str | None) -> Steps:
    """The way to what a source found wrong with itself."""
    source = next(
        name for name in ("trace", "clients", "journal", "lengths", "arrivals") if getattr(crowd, name) is not None
    )
    inside = (param or "").removesuffix("_s")
    return (source, inside) if inside in type(getattr(crowd, source)).model_fields else (source,)


def _sources(crowd: CrowdSection) -> Iterator[Mistake]:
    given = [name for name in ("trace", "clients", "journal", "arrivals") if getattr(crowd, name) is not None]
    if len(given) != 1:
        said = " and ".join(given) or "none of them"
        yield Mistake((), f"say when they call: by one of trace, clients, journal and arrivals, not {said}")
    for name in ("prompt_tokens", "output_tokens", "lengths", "sessions"):
        if given and given[-1] != "arrivals" and getattr(crowd, name) is not None:
            yield Mistake((name,), f"goes with arrivals; {given[-1]} has its own")
    if crowd.clients is not None and crowd.tenants:
        yield Mistake(("tenants",), "each of the clients is a tenant already")
    if crowd.journal is not None and crowd.tenants:
        yield Mistake(("tenants",), "the journal says whose calls they are")
    for name in ("prompt_tokens", "output_tokens", "lengths"):
        if crowd.sessions is not None and getattr(crowd, name) is not None:
            yield Mistake((name,), "conversations have question_tokens and answer_tokens, in sessions")
    if crowd.arrivals is not None and (crowd.prompt_tokens is None) != (crowd.output_tokens is None):
        lacking = "prompt_tokens" if crowd.prompt_tokens is None else "output_tokens"
        yield Mistake((), f"{lacking} is missing")
    if crowd.lengths is not None and crowd.prompt_tokens is not None:
        yield Mistake(("lengths",), "say lengths, or prompt_tokens and output_tokens, not both")


def _names(scenario: Scenario, crowd: CrowdSection) -> Iterator[Mistake]:
    models = [model.name for model in scenario.models]
    regions = [region.name for region in scenario.world.regions]
    bands = [band.name for band in scenario.policies.bands]
    asked = [
        (("model",), crowd.model),
        *((("tenants", i, "model"), who.model) for i, who in enumerate(crowd.tenants)),
    ]
    for steps, model in asked:
        if model is not None and model not in models:
            yield Mistake(steps, unknown("model", model, models))
    if crowd.region is not None and crowd.region not in regions:
        yield Mistake(("region",), unknown("region", crowd.region, regions))
    if crowd.region is None and not any(region.clients != 0 for region in scenario.world.regions):
        yield Mistake((), "no region has clients: give one some, or say where these callers are")
    for number, tenant in enumerate(crowd.tenants):
        if tenant.band and tenant.band not in bands:
            yield Mistake(("tenants", number, "band"), unknown("band", tenant.band, bands))


def _bands(scenario: Scenario, crowd: CrowdSection) -> Iterator[Mistake]:
    """Classes of urgency that recorded calls asked for, and that are none here."""
    bands = [band.name for band in scenario.policies.bands]
    asked = survey(crowd.journal.path).bands if crowd.journal is not None else {}
    for band in asked:
        if band and band not in bands:
            yield Mistake(("journal",), f"has calls of {unknown('band', band, bands)}")


def _times(scenario: Scenario, crowd: CrowdSection) -> Iterator[Mistake]:
    over = f"the run is over at {scenario.duration:g} s"
    for name, source in (("trace", crowd.trace), ("clients", crowd.clients), ("journal", crowd.journal)):
        if source is not None and source.at >= scenario.duration:
            yield Mistake((name, "at"), over)
    if crowd.arrivals is None:
        return
    if crowd.arrivals.start >= scenario.duration:
        yield Mistake(("arrivals", "start"), over)
    for place, shape in enumerate(crowd.arrivals.over_time):
        if shape.kind in {"surge", "ramp"} and shape.at >= scenario.duration:
            yield Mistake(("arrivals", "over_time", place, "at"), over)


def _traces(crowd: CrowdSection) -> Iterator[Mistake]:
    for key in ("trace", "lengths"):
        section: LengthsSection | None = getattr(crowd, key)
        if section is None or section.name is None:
            continue
        if section.name not in trace_files.shipped():
            said = unknown("trace", section.name, trace_files.shipped())
            yield Mistake((key, "name"), f"{said} (for a file of your own: {{path: {section.name}}})")
