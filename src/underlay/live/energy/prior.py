"""What is a step taken to cost before anything was metered on this machine?

    joules = watts·(bytes read / bytes per second + operations / operations per second)

for a server's processors, as everything bundled runs on those: each step reads all weights (a byte for each
parameter), each token takes its operations. Watts are those that busy threads add (``physics.thread_power``); they
set a level that the first windows correct, so what matters is the ratio of bandwidth to arithmetic. Both are
assumed: 40 GB/s, and 30 Gflop/s for each thread, as parts of a few years' age have.

Refused here: what the meter says.
"""

from __future__ import annotations

import os

from underlay.ledger.priors import stated
from underlay.ledger.step_energy import Coefficients, Prior, Sums
from underlay.ledger.steps import TokenCosts
from underlay.live.meters.processor import processor_name
from underlay.physics.thread_power import thread_power

BYTES_S = 4e10
THREAD_FLOP_S = 3e10
#: How far off such a guess is taken to be: it may be off by half.
ERROR = 0.5


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
