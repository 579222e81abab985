"""What could serve the model: which accelerators, split how, in which precision, and at what price?

An offer is a replica that fits its accelerators and whose step times are known; whatever does not make one is told
with the reason, so that nothing is left out in silence. Without being told otherwise only profiles that rest on
timed kernels or runs are taken; reckoned ones on request, or where an accelerator is named. Refused here: loads and
promises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from underlay.domain.errors import BadRequest
from underlay.physics import catalogue, power, prices, profiles
from underlay.physics.catalogue import WEIGHT_BYTES, Parallelism
from underlay.physics.power import PowerCurve
from underlay.physics.profiles import Profile
from underlay.twin.engine import PagedRules
from underlay.twin.plan.question import Question

#: vLLM's, as scenarios have them.
MAX_SEQUENCES, BLOCK_TOKENS = 256, 16
_SPLITS = ("tp1", "tp2", "tp4", "tp8")


class HourPrice(NamedTuple):
    """US dollars for one accelerator and hour, the ends between which it lies, and how that is known."""

    usd: float
    least_usd: float
    most_usd: float
    method: str
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """One way to run a replica: ``accelerators`` is how many it takes."""

    accelerator: str
    parallelism: str
    precision: str
    accelerators: int
    profile: Profile
    rules: PagedRules
    curve: PowerCurve
    price: HourPrice

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.accelerator} {self.parallelism} {self.precision}"


class LeftOut(NamedTuple):
    """What cannot serve or was not tried, and why."""

    name: str
    why: str


def offers(question: Question) -> tuple[list[Offer], list[LeftOut]]:
    """Everything that could serve the model, and everything that could not.

    Errors: NotFound for a model or accelerator outside the catalogue; BadRequest for a precision or parallelism
    that does not exist, or a context shorter than the longest request.
    """
    of = catalogue.model(question.model)
    for precision in question.precisions:
        of.weight_bytes(precision)
    for split in question.parallelisms:
        Parallelism.parse(split)
    context = context_tokens(question)
    found: list[Offer] = []
    left: list[LeftOut] = []
    named = tuple(dict.fromkeys([*question.accelerators, *question.usd_per_hour, *question.available]))
    for name in named:
        catalogue.accelerator(name)
    for accelerator in question.accelerators or catalogue.accelerators():
        price = _price(question, accelerator)
        if price is None:
            left.append(LeftOut(accelerator, "no list price is known; say it in USD per hour"))
            continue
        for split, precision in _ways(question, accelerator):
            offer = _offer(question, accelerator, split, precision, price, context)
            if isinstance(offer, Offer):
                found.append(offer)
            else:
                left.append(LeftOut(f"{accelerator} {split} {precision}", offer))
    return found, left


def context_tokens(question: Question) -> int:
    """The context that replicas are started with: as told, or for the longest request. Errors: BadRequest."""
    of, longest = catalogue.model(question.model), question.demand.longest
    asked = question.context_tokens or -(-longest // 1024) * 1024
    if asked < longest:
        raise BadRequest(
            f"The longest request has {longest:,} tokens, the context {asked:,}: raise it, or cut the lengths.",
            param="context_tokens",
        )
    if of.context_tokens and longest > of.context_tokens:
        raise BadRequest(
            f"The longest request has {longest:,} tokens; {of.id} takes {of.context_tokens:,} at most.",
            param="model",
        )
    return min(asked, of.context_tokens) if of.context_tokens else asked


def _ways(question: Question, accelerator: str) -> Iterator[tuple[str, str]]:
    """Splits and precisions to try: as asked, else those that have a profile, else all on request."""
    known = [(key.parallelism, key.precision) for key in profiles.known() if _serves(key, question, accelerator)]
    assumed = question.assumed_profiles or accelerator in question.accelerators
    tried = [*known, *_others(question.model, known)] if assumed else known
    for split, precision in tried:
        wanted = not question.parallelisms or split in question.parallelisms
        if wanted and (not question.precisions or precision in question.precisions):
            yield split, precision


def _serves(key: profiles.Key, question: Question, accelerator: str) -> bool:
    return key.accelerator == accelerator and key.model == question.model and key.engine == "vllm"


def _others(model: str, known: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Usual splits and precisions without a profile; of precisions those that any profile of the model has."""
    precisions = {key.precision: None for key in profiles.known() if key.model == model} or dict.fromkeys(
        precision for precision in WEIGHT_BYTES if precision in ("bf16", "fp8")
    )
    for split in _SPLITS:
        for precision in precisions:
            if (split, precision) not in known:
                yield split, precision


def _offer(
    question: Question, accelerator: str, split: str, precision: str, price: HourPrice, context: int
) -> Offer | str:
    """An offer, or why there is none."""
    on, of, way = catalogue.accelerator(accelerator), catalogue.model(question.model), Parallelism.parse(split)
    count = max(way.tensor, way.expert)
    if question.server_accelerators % count:
        return f"{count} accelerators do not go evenly into a server of {question.server_accelerators}"
    if of.heads % way.tensor:
        return f"{of.heads} heads cannot be split by {way.tensor}"
    try:
        kv_tokens = catalogue.kv_capacity_tokens(on, of, way, precision)
        profile = profiles.find(accelerator, question.model, split, precision)
        curve = power.find(accelerator, question.model, count, precision)
    except BadRequest as error:
        return error.message
    if kv_tokens < context:
        return f"its KV cache holds {kv_tokens:,} tokens, one request may have {context:,}"
    rules = PagedRules(
        blocks=kv_tokens // BLOCK_TOKENS,
        max_sequences=MAX_SEQUENCES,
        block_tokens=BLOCK_TOKENS,
        context_tokens=context,
        prefix_caching=False,
    )
    return Offer(accelerator, split, precision, count, profile, rules, curve, price)


def _price(question: Question, accelerator: str) -> HourPrice | None:
    given = question.usd_per_hour.get(accelerator)
    if given is not None:
        return HourPrice(given, given, given, "measured", f"{given:g} USD/h, given")
    found = prices.hour_prices().get(accelerator)
    if found is None:
        return None
    return HourPrice(found.usd, found.least_usd, found.most_usd, "modelled", found.note)
