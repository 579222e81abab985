"""From a question to a plan: offers, what they carry, the search, what it comes to, and how sure that is.

Nothing is decided here; each step is told to ``watch`` while it goes on. Equal questions have equal plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from underlay.twin.plan import bands as uncertainty
from underlay.twin.plan import diagnosis
from underlay.twin.plan.bands import Bands
from underlay.twin.plan.carriers import Carrier, Watch, carriers, server_base_w
from underlay.twin.plan.figures import Pool, Total, Watts, methods, pools, prices_of, total, watts
from underlay.twin.plan.offers import LeftOut, offers
from underlay.twin.plan.places import Place, Ways, farthest_s, places, reach, ways
from underlay.twin.plan.problem import Problem, Region, Server, least_kinds
from underlay.twin.plan.question import Question
from underlay.twin.plan.search import Found, search

#: So many reasons are told.
_REASONS = 8


class NothingFits(Exception):
    """There is no plan. ``reasons`` say which bound failed and what would help; ``left`` what was not an offer."""

    def __init__(self, about: str, reasons: Sequence[str], left: Sequence[LeftOut] = ()) -> None:
        super().__init__(about)
        self.about = about
        self.reasons = tuple(reasons)
        self.left = tuple(left)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A plan with everything that it rests on. ``bands`` is None where no samples were asked for."""

    question: Question
    problem: Problem
    found: Found
    places: tuple[Place, ...]
    ways: Ways
    carriers: tuple[Carrier, ...]
    pools: tuple[Pool, ...]
    watts: tuple[Watts, ...]
    total: Total
    methods: dict[str, str]
    left: tuple[LeftOut, ...]
    bands: Bands | None
    warnings: tuple[str, ...]


def plan(question: Question, watch: Watch) -> Plan:
    """The best plan. Errors: NotFound, BadRequest for what does not exist; NothingFits."""
    sites, found_ways = places(question), ways(question)
    allowed = reach(found_ways, question.rtt_max_s)
    far = diagnosis.out_of_reach(question, found_ways, allowed, question.rtt_max_s)
    if far:
        raise NothingFits("no region is near enough for every client", far)
    lost_max_s = max(question.rtt_max_s, question.rtt_lost_max_s) if question.survives_region else 0.0
    allowed_lost = reach(found_ways, lost_max_s)
    way_s = farthest_s(found_ways, allowed_lost if question.survives_region else allowed)
    able, left = _able(question, way_s, watch)
    problem = _problem(question, sites, found_ways, able, allowed, allowed_lost)
    if question.survives_region:
        lost = diagnosis.out_of_reach_when_lost(question, problem, found_ways)
        if lost:
            raise NothingFits("not every client has a second region", lost)
    watch("searching", 0, 1)
    found = search(problem, question.time_limit_s)
    if not found.replicas:
        watch("asking why nothing fits", 0, 1)
        if found.status == "limit":
            raise NothingFits("no plan was found in time", ["raise the time limit, or name fewer candidates"], left)
        raise NothingFits("no plan keeps all bounds", diagnosis.diagnose(problem), left)
    made = pools(problem, found, able, found_ways)
    sure = uncertainty.bands(question, problem, sites, able, made, watch) if question.samples else None
    return Plan(
        question=question,
        problem=problem,
        found=found,
        places=sites,
        ways=found_ways,
        carriers=tuple(able),
        pools=tuple(made),
        watts=tuple(watts(problem, found, able)),
        total=total(question, problem, found, able, prices_of(sites, able)),
        methods=methods(sites, made),
        left=tuple(left),
        bands=sure,
        warnings=_warnings(question, sites, made, found),
    )


def _able(question: Question, way_s: float, watch: Watch) -> tuple[list[Carrier], list[LeftOut]]:
    """All kinds of replicas that keep the promise, but for those that another always takes the place of."""
    if question.slo.ttft_s is not None and question.slo.ttft_s <= way_s:
        said = f"the way there and back takes {way_s * 1e3:.0f} ms of the {question.slo.ttft_s * 1e3:.0f} ms; "
        raise NothingFits("no TTFT is left", [said + "raise the TTFT, or lower the longest round trip"])
    found, left = offers(question)
    watch(f"{len(found)} ways to run {question.model}", 0, 1)
    able, slow = carriers(question, found, way_s, watch)
    left += slow
    if not able:
        raise NothingFits(f"nothing serves {question.model} as promised", _reasons(question, slow, left), left)
    kept, beaten = least_kinds([carrier.kind() for carrier in able])
    left += [
        LeftOut(kind.name, f"{other.name} carries as much on as many, and draws no more") for kind, other in beaten
    ]
    names = {kind.name: place for place, kind in enumerate(kept)}
    able = sorted((carrier for carrier in able if carrier.offer.name in names), key=lambda c: names[c.offer.name])
    return able, left


def _reasons(question: Question, slow: Sequence[LeftOut], left: Sequence[LeftOut]) -> list[str]:
    """Why no kind of replica is left, and what would help."""
    last = {name.split(" ")[0]: f"{name}: {why}" for name, why in (slow or left)}  # of each, the widest split
    said = list(last.values())[:_REASONS]
    if len(slow or left) > len(said):
        said.append(f"and {len(slow or left) - len(said)} more")
    if slow:
        said.append("it would help to raise the TTFT or TPOT, to lower the attainment, or to cut the lengths")
    elif not question.assumed_profiles:
        said.append("it would help to take accelerators whose step times are assumed, or to tell prices")
    return said


def _problem(
    question: Question,
    sites: Sequence[Place],
    found: Ways,
    able: Sequence[Carrier],
    allowed: tuple[tuple[bool, ...], ...],
    allowed_lost: tuple[tuple[bool, ...], ...],
) -> Problem:
    money = question.objective == "cost"
    size = question.server_accelerators
    servers = {}
    for carrier in able:
        offer = carrier.offer
        per_hour = offer.price.usd * size if money else 0.0
        servers[offer.accelerator] = Server(size, server_base_w(question, offer.accelerator), per_hour)
    return Problem(
        regions=tuple(_region(question, site) for site in sites),
        kinds=tuple(carrier.kind() for carrier in able),
        servers=servers,
        peak_per_s=question.demand.peak_per_s,
        mean_per_s=question.demand.mean_per_s,
        shares=found.shares,
        rtt_s=found.rtt_s,
        reach=allowed,
        reach_lost=allowed_lost,
        available=question.available,
        regions_min=question.regions_min,
        survives_region=question.survives_region,
        one_kind=question.one_kind,
    )


def _region(question: Question, site: Place) -> Region:
    per_kwh = {"cost": site.price.value, "energy": 1.0, "carbon": site.carbon.value * 1e-3}[question.objective]
    return Region(
        name=site.name,
        pue=site.pue.value,
        per_kwh=per_kwh,
        power_cap_w=site.asked.power_cap_w,
        share_max=min(site.asked.share_max, question.share_max),
        accelerators_max=site.asked.accelerators_max,
    )


def _warnings(question: Question, sites: Sequence[Place], made: Sequence[Pool], found: Found) -> tuple[str, ...]:
    """What to distrust."""
    said: dict[str, None] = {}
    if found.status == "limit":
        said[f"Time ran out: the plan is within {found.gap:.1%} of the best, and perhaps the best."] = None
    if question.demand.peak_per_s <= question.demand.mean_per_s * (1 + 1e-9):
        said["The peak is taken to be the mean: say the peak if there is one."] = None
    for pool in made:
        offer, site = pool.carrier.offer, sites[pool.region]
        for line in offer.profile.warnings(
            decode_sequences=pool.carrier.formula.sequences, context_tokens=question.demand.longest
        ):
            said[line] = None
        if offer.curve.method == "assumed":
            said[f"{offer.name}: its power is assumed: {offer.curve.note}."] = None
        for what, known in (("price", site.price), ("carbon", site.carbon), ("PUE", site.pue)):
            if known.method == "assumed" and known.source != "given":
                said[f"{site.name}: its {what} of {known.value:.3g} is assumed: {known.source}."] = None
    return tuple(said)
