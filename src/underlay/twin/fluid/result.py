"""A run of flows, and what it leaves behind: as at request level, with rows that stand for many requests."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np

from underlay.domain.money import Price
from underlay.twin.records import OUTCOMES, Requests, RunResult
from underlay.twin.scenario import Scenario

from .doubts import doubts
from .drawing import draw
from .flows import Run

_FINISHED = OUTCOMES.index("finished")
_TOKENS_PER_PRICE = 1e6
_PICO = 1e12


def run(
    scenario: Scenario,
    seed: int,
    *,
    progress: Callable[[float, float, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Run a scenario as flows. Equal seeds give equal results, down to the hash.

    ``progress`` and ``stop`` are as at request level. Raises ``ScenarioMistake``.
    """
    with _uncollected():
        flowing = Run(scenario, seed)
        flowing.go(progress or _nobody_watches, stop or _never)
        world = flowing.world
        dice = np.random.default_rng(world.kernel.stream("rows").getrandbits(64))
        requests = draw(flowing, dice)
    _earn(flowing, requests)
    happenings = world.happenings()
    digest = blake2b(requests.hash().encode(), digest_size=16)
    digest.update(repr(flowing.series.values).encode())
    digest.update(repr(happenings).encode())
    targets = {"ttft": scenario.slo.ttft, "tpot": scenario.slo.tpot, "e2e": scenario.slo.e2e}
    return RunResult(
        scenario=scenario.name,
        seed=seed,
        duration_s=scenario.duration,
        simulated_s=world.kernel.at,
        trace_hash=digest.hexdigest(),
        events=world.kernel.events + sum(surface.events for surface in world.surfaces.values()),
        requests=requests,
        series=flowing.series,
        accounts=world.accounts(),
        warnings=list(dict.fromkeys([*doubts(flowing), *world.warnings, *world.facility.warnings])),
        happenings=happenings,
        partial=flowing.partial,
        slo={name: target for name, target in targets.items() if target is not None},
    )


def _earn(flowing: Run, requests: Requests) -> None:
    """What every region earned: tokens of finished requests at their models' prices."""
    prices = {model.name: Price(**model.price.model_dump()) for model in flowing.scenario.models}
    weights, finished = requests.weights(), requests.column("outcome") == _FINISHED
    prompts, cached, outputs = (
        requests.column(f"{name}_tokens").astype(np.float64) for name in ("prompt", "cached", "output")
    )
    regions, models = requests.column("served_in"), requests.column("model")
    for region in flowing.world.regions:
        earned = 0.0
        for place, name in enumerate(requests.names["model"]):
            here = finished & (models == place) & (regions == requests.place("region", region.name))
            price = prices[name]
            usd = (
                float(price.prompt_usd_per_mtok) * (prompts - cached)
                + float(price.cached_usd_per_mtok) * cached
                + float(price.completion_usd_per_mtok) * outputs
            )
            earned += float((weights * usd)[here].sum()) / _TOKENS_PER_PRICE
        region.revenue_pico_usd = round(earned * _PICO)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the collector leave alone what stays for the whole run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _nobody_watches(_simulated_s: float, _duration_s: float, _requests: int) -> None:
    pass


def _never() -> bool:
    return False
