"""How a plan is asked for on the command line: regions, clients, lengths and spans as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from underlay.twin.plan.question import Candidate, Client

_Verb = TypeVar("_Verb", bound=Callable[..., Any])

_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0}
_WATTS = {"W": 1.0, "kW": 1e3, "MW": 1e6, "GW": 1e9}
_MEASURE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")

#: What may be said of a region after its name, and what a plan calls it.
_REGION_KEYS = {
    "power": "power_cap_w",
    "share": "share_max",
    "accelerators": "accelerators_max",
    "usd-kwh": "usd_kwh",
    "carbon": "carbon_g_kwh",
    "pue": "pue",
}


def span_s(value: str) -> float:
    """``800ms``, ``2s`` or ``2`` in seconds; ``none`` is endless."""
    return (
        inf if value.strip() == "none" else _measure(value, _SECONDS, "s", "a length of time such as 800ms or 2s")
    )


def region(value: str) -> dict[str, Any]:
    """``azure/westeurope,power=2MW,share=0.6`` as the fields of a candidate."""
    name, *settings = [part.strip() for part in value.split(",")]
    told: dict[str, Any] = {"name": name}
    for setting in settings:
        key, _, number = setting.partition("=")
        if key not in _REGION_KEYS:
            near = get_close_matches(key, _REGION_KEYS, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(_REGION_KEYS)}."
            raise click.BadParameter(f"'{setting}' is nothing that can be said of a region; {meant}")
        units = _WATTS if key == "power" else {"": 1.0}
        told[_REGION_KEYS[key]] = _measure(number, units, "W" if key == "power" else "", f"a number for {key}")
    return told


def weighted(value: str) -> tuple[str, float]:
    """``azure/uksouth=3`` as a place and a weight; 1 where nothing is said."""
    name, _, weight = value.partition("=")
    return name.strip(), _measure(weight, {"": 1.0}, "", "a weight") if weight else 1.0


def priced(value: str) -> tuple[str, float]:
    """``h100-sxm=2.50`` as a name and a number."""
    name, _, number = value.partition("=")
    if not number:
        raise click.BadParameter(f"'{value}' has no number; write for example h100-sxm=2.50")
    return name.strip(), _measure(number, {"": 1.0}, "", "a number")


def spread(value: str) -> tuple[float, float]:
    """``1200~1.5`` as a mean and a coefficient of variation; 1 where nothing is said, as lengths often have."""
    mean, _, cv = value.partition("~")
    return _measure(mean, {"": 1.0}, "", "a mean"), _measure(cv, {"": 1.0}, "", "a variation") if cv else 1.0


def each(convert: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that converts a value, or every one of a repeated option."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:  # noqa: ARG001
        if value is None:
            return None
        return convert(value) if isinstance(value, str) else tuple(convert(one) for one in value)

    return callback


def candidates(told: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
    """Regions as a plan takes them."""
    from underlay.twin.plan.question import Candidate

    return tuple(Candidate(**fields) for fields in told)


def clients(told: Sequence[tuple[str, float]]) -> tuple[Client, ...]:
    """Places of clients as a plan takes them."""
    from underlay.twin.plan.question import Client

    return tuple(Client(place, weight) for place, weight in told)


def plan_options(verb: _Verb) -> _Verb:
    """Add everything that a plan can be asked."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


def _measure(value: str, units: Mapping[str, float], usual: str, expected: str) -> float:
    match = _MEASURE.fullmatch(value.strip())
    unit = (match[2] or usual) if match else "?"
    if match is None or unit not in units:
        raise click.BadParameter(f"'{value}' is not {expected}")
    return float(match[1]) * units[unit]


_OPTIONS = [
    click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Requests per second."),
    click.option("--peak", type=click.FloatRange(0, min_open=True), metavar="N",
                 help="Requests per second at the peak.  [default: the mean]"),
    click.option("--growth", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, metavar="N",
                 help="Times the whole load."),
    click.option("--cv", type=click.FloatRange(0, min_open=True), metavar="N",
                 help="Burstiness at the peak: CV of the gaps.  [default: 1, Poisson; of a trace, its own]"),
    click.option("--prompt-tokens", callback=each(spread), metavar="MEAN[~CV]", help="Prompts: 1200~1.5."),
    click.option("--output-tokens", callback=each(spread), metavar="MEAN[~CV]", help="Answers: 250."),
    click.option("--lengths", default="sharegpt", show_default=True, metavar="NAME|FILE",
                 help="Or lengths as they were recorded."),
    click.option("--trace", metavar="NAME|FILE", help="The load as it was recorded; --rate scales it."),
    click.option("--load", metavar="FILE|NAME",
                 help="The load of a scenario; its model, SLO, regions and clients too, where none are told here."),
    click.option("--ttft", callback=each(span_s), metavar="SPAN",
                 help="Longest time to the first token, at the caller; none: any.  [default: 2s]"),
    click.option("--tpot", callback=each(span_s), metavar="SPAN",
                 help="Longest mean time per further token; none: any.  [default: 100ms]"),
    click.option("--attainment", type=click.FloatRange(0.5, 1, max_open=True), default=0.99, show_default=True,
                 metavar="SHARE", help="Part of all requests within both."),
    click.option("--region", "regions", multiple=True, callback=each(region), metavar="NAME[,KEY=VALUE…]",
                 help="A region that may be used, such as azure/westeurope; KEY is one of power (2MW), share (0.6),"
                 " accelerators, usd-kwh, carbon (g/kWh), pue.  Repeatable."),
    click.option("--client", "clients", multiple=True, callback=each(weighted), metavar="PLACE[=WEIGHT]",
                 help="Where callers are: a region near them.  Repeatable.  [default: near who serves them]"),
    click.option("--max-rtt", callback=each(span_s), metavar="SPAN", help="Longest round trip of any client."),
    click.option("--max-rtt-lost", callback=each(span_s), metavar="SPAN", help="The same while a region is lost."),
    click.option("--max-share", type=click.FloatRange(0, 1, min_open=True), default=1.0, metavar="SHARE",
                 help="Most of the load that one region may take."),
    click.option("--min-regions", type=click.IntRange(1), default=1, metavar="N", help="Use at least so many."),
    click.option("--survive-region", is_flag=True, help="Without any one region the others carry the whole peak."),
    click.option("--mixed", is_flag=True, help="Allow unlike replicas in one region."),
    click.option("--accelerator", "accelerators", multiple=True, metavar="NAME", help="Only these.  Repeatable."),
    click.option("--precision", "precisions", multiple=True, metavar="NAME",
                 help="Of the weights: bf16, fp8, fp4, mxfp4.  Repeatable.  [default: all with known step times]"),
    click.option("--parallelism", "parallelisms", multiple=True, metavar="NAME",
                 help="Accelerators of a replica: tp4.  Repeatable.  [default: all with known step times]"),
    click.option("--assumed", is_flag=True, help="Take accelerators whose step times nobody measured, too."),
    click.option("--price", "prices", multiple=True, callback=each(priced), metavar="ACCELERATOR=USD",
                 help="US dollars for one and hour.  Repeatable.  [default: dated list prices]"),
    click.option("--available", multiple=True, callback=each(priced), metavar="ACCELERATOR=N",
                 help="So many there are, over all regions.  Repeatable."),
    click.option("--usd-kwh", type=click.FloatRange(0), metavar="USD", help="Price of electricity, everywhere."),
    click.option("--server-accelerators", type=click.IntRange(1, 64), default=8, show_default=True, metavar="N",
                 help="Accelerators of one server; whole servers are paid for."),
    click.option("--context-tokens", type=click.IntRange(1), metavar="N", help="Context that replicas start with."),
    click.option("--objective", type=click.Choice(["cost", "energy", "carbon"]), default="cost", show_default=True,
                 help="What is made least."),
    click.option("--samples", type=click.IntRange(0, 10_000), default=64, show_default=True, metavar="N",
                 help="Draws for the band of uncertainty; 0: none."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of all dice."),
    click.option("--time-limit", callback=each(span_s), default="20s", show_default=True, metavar="SPAN",
                 help="For the search."),
]  # fmt: skip
