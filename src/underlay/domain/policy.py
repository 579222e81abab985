"""The settings that decisions are made by: what ``control.desk.assemble`` takes and a journal begins with.

The user's file (cli and live read it) is larger; this is the part that changes what the desk decides.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from underlay.domain.keys import Budget, Limits
from underlay.domain.money import OwnPrice, Price

#: What work that can wait is put off for: less carbon, a lower price of electricity, or less of both together.
DeferralGoal = Literal["none", "carbon", "price", "both"]


class ModelPolicy(Struct, frozen=True):
    """A model that callers may name: its context in tokens, its price, and whether it embeds.

    ``template`` names how conversations become text (and its version): prompts told in different templates
    share no cached beginning.
    """

    name: str
    context_tokens: int = 8192
    price: Price = Price()
    operations: tuple[str, ...] = ("chat", "completion", "count")
    template: str = ""


class Band(Struct, frozen=True):
    """A class of urgency. Bands are served in order; ``share`` of the work is kept for this one all the same.

    The share (0 to 1) is what keeps a lower band from starving; the first band needs none. ``patience`` times
    the desk's ``wait_max_s`` and ``slo_ttft_s`` is what its requests put up with.
    """

    name: str
    share: float = 0.0
    patience: float = 1.0


class Account(Struct, frozen=True):
    """Limits, budgets and rank of everything under one name: a user, a tenant (team) or a model.

    ``weight`` is a tenant's part of a busy platform beside the others'; ``band`` the highest it may ask for
    (empty: as the key says); ``prices`` what a tenant pays instead of the models' prices.
    """

    scope: Literal["user", "tenant", "model"]
    name: str
    limits: Limits = Limits()
    budgets: tuple[Budget, ...] = ()
    weight: float = 1.0
    band: str = ""
    prices: tuple[OwnPrice, ...] = ()


class DeskSettings(Struct, frozen=True):
    """Everything the desk's decisions depend on besides events. Times in seconds, shares from 0 to 1.

    Routing: ``routing`` names the policy; a replica is *warm* for a prompt of which it holds ``warm_share``;
    warmth is worth at most ``warm_penalty_s`` of waiting for the first token; ``explore_share`` of the requests
    ignore it. ``index_tokens`` is what a replica's cache is taken to hold where it does not say.

    Waiting: ``waiting_max`` bounds the line, ``wait_max_s`` the time in it. ``slo_ttft_s`` is how soon a first
    token is worth having (none: within ``wait_max_s``): a standing line longer than a quarter of it is overload.
    ``holdback_share`` of the slots, and more as others' arrivals need, is kept from tenants that have had more than
    their part lately, while others are about.

    Overload: ``adaptive`` lets measured latencies lower what a replica is given below its slots.

    Recovery: ``attempts_max`` how many replicas one request may be given to; ``strikes_max`` failures in a row
    send a replica away for ``suspect_s``, twice as long each time up to ``suspect_max_s``, but never more than
    ``eject_share_max`` of a model's replicas; one that comes back gets its full part after ``slow_start_s``.
    Starting requests afresh may add ``retry_share`` to the first attempts of any ten seconds, and hedges
    ``hedge_share`` (0: no hedging). ``drain_s`` is how long streams may stay on a replica that is drained.

    Work that can wait: ``deferral`` says for what it is put off, ``deferral_margin_s`` how long before it must
    begin it does at the latest; with ``both`` a tonne of carbon counts as ``carbon_usd_per_tonne``.
    """

    models: tuple[ModelPolicy, ...] = ()
    accounts: tuple[Account, ...] = ()
    default_limits: Limits = Limits()
    strands_max: int = 8
    seed: int = 0
    # routing
    routing: str = "sticky"
    warm_share: float = 0.8
    warm_penalty_s: float = 1.0
    explore_share: float = 0.01
    index_tokens: int = 131_072
    # waiting
    bands: tuple[Band, ...] = (Band("priority"), Band("standard", 0.2), Band("batch", 0.05, 10.0))
    waiting_max: int = 1024
    wait_max_s: float = 120.0
    slo_ttft_s: float | None = None
    holdback_share: float = 0.1
    # overload
    adaptive: bool = True
    # recovery
    attempts_max: int = 3
    strikes_max: int = 3
    suspect_s: float = 10.0
    suspect_max_s: float = 300.0
    eject_share_max: float = 0.5
    slow_start_s: float = 10.0
    retry_share: float = 0.2
    hedge_share: float = 0.0
    drain_s: float = 120.0
    # work that can wait
    deferral: DeferralGoal = "none"
    deferral_margin_s: float = 600.0
    carbon_usd_per_tonne: float = 80.0
    # requests sent twice
    idempotency_s: float = 86_400.0
    idempotency_max: int = 10_000
