"""What is a step taken to cost before anything was metered on this machine?

The profile that ``underlay calibrate`` keeps in the data directory says it, where it holds power that was metered
on this processor, by meters that are here. Else it is

    joules = watts·(bytes read / bytes per second + operations / operations per second)

for a server's processors, as everything bundled runs on those: each step reads all weights (a byte for each
parameter), each token takes its operations. Watts are those that busy threads add (``physics.thread_power``); they
set a level that the first windows correct, so what matters is the ratio of bandwidth to arithmetic. Both are
assumed: 40 GB/s, and 30 Gflop/s for each thread, as parts of a few years' age have.

Refused here: what the meter says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import structlog

from underlay.domain.errors import BadRequest
from underlay.ledger.priors import stated
from underlay.ledger.step_energy import Coefficients, Prior, Sums
from underlay.ledger.steps import TokenCosts
from underlay.live.meters.processor import processor_name
from underlay.physics import profiles
from underlay.physics.thread_power import thread_power

log = structlog.get_logger("underlay.energy")

BYTES_S = 4e10
THREAD_FLOP_S = 3e10
#: How far off such a guess is taken to be: it may be off by half.
ERROR = 0.5


def profile_path(data_dir: Path, model: str) -> Path:
    """Where the profile of a model's own engine is kept, whether there is one or not."""
    return data_dir / "profiles" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', model)}.profile.json"


def first_prior(costs: TokenCosts, profile: Path, meters: Iterable[str]) -> Prior:
    """The step model to begin with: the profile's, if there is one for these meters (ids), else the guess."""
    return _calibrated(costs, profile, set(meters)) or processor_prior(costs)


def _calibrated(costs: TokenCosts, profile: Path, meters: set[str]) -> Prior | None:
    if not profile.exists():
        return None
    try:
        known = profiles.read(profile)
    except BadRequest as error:
        log.warning("a profile cannot be used", why=error.message, fix="underlay calibrate")
        return None
    power = known.power
    if power is None or power.processor != processor_name() or not meters.issuperset(power.meter.split("+")):
        return None
    of = power.joules
    coefficients = Coefficients(of.step_j, of.pflop_j, of.token_j, of.kv_gb_j)
    log.info("steps are taken to cost what was calibrated", source=known.source, method=power.method)
    return stated(coefficients, power.method, power.error_mean, tuple(_typical(costs)))


def processor_prior(costs: TokenCosts) -> Prior:
    """The step model of this machine's processors, for a model with these costs; assumed."""
    threads = os.cpu_count() or 1
    watts = thread_power(processor_name()).power_w * threads
    flop_j = watts / (THREAD_FLOP_S * threads)
    weight_bytes = costs.token_flop / 2.0
    coefficients = Coefficients(
        step_j=watts * weight_bytes / BYTES_S,
        pflop_j=flop_j * 1e15,
        token_j=flop_j * costs.token_flop,
        kv_gb_j=watts * 1e9 / BYTES_S,
    )
    return stated(coefficients, "assumed", ERROR, tuple(_typical(costs)))


def _typical(costs: TokenCosts) -> list[Sums]:
    read_gb = costs.kv_read_bytes(1024) * 1e-9
    prompt = costs.prefill("", 512).prefill_flop * 1e-15
    return [Sums(1.0, prompt), *(Sums(1.0, 0.0, batch, batch * read_gb) for batch in (1, 4, 16))]
