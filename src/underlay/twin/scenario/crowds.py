"""The crowds of a scenario: who asks what, when, and what they do when they have to wait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from underlay.documents.sections import Count, Section, Share
from underlay.twin.scenario.arrivals import ArrivalsSection, GeometricSection, LognormalSection, Spread
from underlay.twin.scenario.values import ModelName, Moment, Name, NotNegative, Positive, Span

Tenant = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _by_name(value: Any) -> Any:
    """``azure-2023-conv`` is short for ``{name: azure-2023-conv}``."""
    return {"name": value} if isinstance(value, str) else value


class LengthsSection(Section):
    """Lengths of prompts and answers as they were recorded, in pairs."""

    name: str | None = Field(None, description="a trace that comes along")
    path: Path | None = Field(None, description="or a file of your own")
    prompt_scale: Positive = Field(1.0, description="times as many tokens in prompts")
    output_scale: Positive = Field(1.0, description="times as many tokens in answers")


class TraceSection(LengthsSection):
    """Calls as they were recorded."""

    speed: Positive | None = Field(None, description="how fast its time passes; none: as it was")
    mean_rate_per_s: Positive | None = Field(None, description="or how many calls a second are to come of it")
    share: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="part of its calls that are made")
    start: Moment = Field(0.0, description="where in the recording to begin")
    stop: Span | None = Field(None, description="where in the recording to end; none: with its last call")
    at: Moment = Field(0.0, description="when in the run it begins")
    repeat: Count = Field(1, description="how often it is done, one after the other")


def _by_path(value: Any) -> Any:
    """``incident.journal`` is short for ``{path: incident.journal}``."""
    return {"path": value} if isinstance(value, str) else value


class JournalSection(Section):
    """Calls as a live platform wrote them down, at their times: nobody waits for an answer before asking again."""

    path: Path = Field(description="the journal of a run, from the data directory")
    times: Positive = Field(1.0, description="how often each call is made; 1.5: half of them twice")
    start: Moment = Field(0.0, description="where in the journal to begin, from its first call on")
    stop: Span | None = Field(None, description="where in the journal to end; none: with its last call")
    at: Moment = Field(0.0, description="when in the run it begins")


class ClientsSection(Section):
    """Clients by published statistics of each of them (ServeGen): how often, how unevenly, how long."""

    name: str | None = Field(None, description="a set that comes along: deepseek-r1, m-large")
    path: Path | None = Field(None, description="or a file of rates of your own")
    mean_rate_per_s: Positive | None = Field(None, description="calls per second; none: as they were counted")
    start: Moment = Field(0.0, description="where in the statistics to begin")
    stop: Span | None = Field(None, description="where in the statistics to end; none: with them")
    at: Moment = Field(0.0, description="when in the run it begins")
    prompt_scale: Positive = Field(1.0, description="times as many tokens in prompts")
    output_scale: Positive = Field(1.0, description="times as many tokens in answers")
    band: str = Field("", description="class of urgency; none: the lowest")


class SessionsSection(Section):
    """Conversations: each arrival begins one, and every turn sends all that was said before."""

    turns: Spread = Field(GeometricSection(mean=4), description="turns of a conversation")
    question_tokens: Spread = Field(LognormalSection(mean=200, cv=1.5), description="what each turn adds")
    answer_tokens: Spread = Field(LognormalSection(mean=250, cv=1.0), description="how long its answer is")
    think: Spread = Field(LognormalSection(mean=20, cv=1.0), description="seconds from an answer to the next turn")


class TenantSection(Section):
    """Part of a crowd's calls."""

    name: Tenant = Field(description="as in policies.accounts")
    weight: Positive = Field(1.0, description="its part of the calls, by others'")
    count: Count = Field(1, description="that many of them, numbered from 1, who share the weight")
    skew: NotNegative = Field(0.0, description="how unevenly: as 1 / number ** skew")
    band: str = Field("", description="class of urgency; none: the lowest")
    model: ModelName | None = Field(None, description="which model it asks; none: the crowd's")
    prefix_tokens: Annotated[int, Field(ge=0)] = Field(0, description="system prompt that its calls begin with")
    deadline: Span | None = Field(None, description="how long it waits for a first token; none: see impatience")


class ImpatienceSection(Section):
    """How long callers wait for a first token, and whether they try again."""

    patience: Spread | None = Field(None, description="seconds they wait for a first token; none: for ever")
    tries: Count = Field(3, description="how often they try in all")
    backoff: Moment = Field(0.5, description="pause before the second try")
    factor: Annotated[float, Field(ge=1)] = Field(2.0, description="how much longer each further pause is")
    backoff_max: Moment = Field(8.0, description="longest pause")
    jitter: Share = Field(0.25, description="part of a pause that chance may take off")
    retries_on: tuple[Literal["refused", "failed", "left"], ...] = Field(
        ("refused", "failed"), description="after which ends they try again"
    )


class DeferrableSection(Section):
    """Calls that can wait: what ``policies.deferral`` may put off or send elsewhere."""

    share: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="part of the crowd's calls that can wait")
    within: Span = Field(description="how long after the call its whole answer is wanted")


class CrowdSection(Section):
    """Callers. One of trace, clients, journal and arrivals says when they call."""

    name: Name | None = Field(None, description="what messages call it; none: crowd and its number")
    model: ModelName | None = Field(None, description="which model they ask; none: the first")
    region: Name | None = Field(None, description="where they are; none: everywhere, by the regions' clients")
    tenants: tuple[TenantSection, ...] = Field(
        (), description="who pays; none: those of the trace, or one called like the crowd"
    )
    trace: Annotated[TraceSection | None, BeforeValidator(_by_name)] = Field(
        None, description="recorded calls: the name of a trace, or {path: ...}"
    )
    clients: Annotated[ClientsSection | None, BeforeValidator(_by_name)] = Field(
        None, description="clients by published statistics: the name of a set, or {path: ...}; each is a tenant"
    )
    journal: Annotated[JournalSection | None, BeforeValidator(_by_path)] = Field(
        None, description="calls from a live platform's journal: its path; tenants are those of its keys"
    )
    arrivals: ArrivalsSection | None = Field(None, description="calls at a rate")
    prompt_tokens: Spread | None = Field(None, description="with arrivals: how long prompts are")
    output_tokens: Spread | None = Field(None, description="with arrivals: how long answers are")
    lengths: Annotated[LengthsSection | None, BeforeValidator(_by_name)] = Field(
        None, description="with arrivals: or recorded lengths, in pairs; none of these: those of 'sharegpt'"
    )
    sessions: SessionsSection | None = Field(
        None, description="with arrivals: each begins a conversation, with lengths of its own"
    )
    impatience: ImpatienceSection | None = Field(None, description="none: they wait for ever and never try again")
    deferrable: DeferrableSection | None = Field(
        None, description="calls whose answers are wanted within hours; none: all are wanted at once"
    )
