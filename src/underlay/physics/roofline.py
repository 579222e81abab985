"""What would a step cost where nobody has timed one?

A roofline: a matrix product takes as long as reading its weights or as computing, whichever is longer, each at the
share of the published peak that real kernels reach. Attention reads the KV cache and computes its pairs; tensor
parallelism adds two all-reduces in each layer. The shares below are those of a grid that keep the median error over
the profiles least; ``bench/fidelity/run`` tells the error. A mixture of experts reads, with n tokens in the step,
the part 1 - (1 - a)^n of its weights, where a is the part that one token uses: tokens choose their experts as if by
lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from underlay.physics.catalogue import Accelerator, Model, Parallelism
from underlay.physics.step_time import Curve, StepCoefficients

DECODE_SEQUENCES: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STEP_TOKENS: Sequence[int] = (*DECODE_SEQUENCES, 1024, 2048, 4096, 8192)


class Shares(NamedTuple):
    """The shares of the peaks that are reached, and what the data sheets do not say."""

    weights_memory: float
    matrix_compute: float
    cache_memory: float
    attention_compute: float
    layer_s: float
    link: float
    all_reduce_s: float
    experts_layer_s: float


SHARES = Shares(
    weights_memory=0.75,
    matrix_compute=0.7,
    cache_memory=0.94,
    attention_compute=0.3,
    layer_s=16e-6,
    link=0.4,
    all_reduce_s=15e-6,
    experts_layer_s=0.5e-3,
)
#: Decode mean and p95, prefill mean and p95, of the prior against the profiles: whole experts, and experts split.
_ERROR = (0.135, 0.417, 0.202, 0.476)
_ERROR_EXPERTS_SPLIT = (0.503, 1.618, 0.288, 0.574)
#: Where no link to neighbours is published: PCIe of the fourth generation, 16 lanes.
_LINK_BYTES_S = 32e9
_HOST_S = 0.5e-3


def prior(
    on: Accelerator, of: Model, split: Parallelism, precision: str, shares: Shares = SHARES
) -> StepCoefficients:
    """The coefficients that data sheets suggest. Errors: BadRequest if there is no peak for this precision."""
    decode = [_matrices_s(count, on, of, split, precision, shares) for count in DECODE_SEQUENCES]
    mixed = [_matrices_s(count, on, of, split, precision, shares) for count in STEP_TOKENS]
    # Layers with a window look at a bounded part; their share of a long context is left out.
    kv_bytes = of.kv_token_bytes_beyond_window or of.kv_token_bytes
    return StepCoefficients(
        decode=Curve(DECODE_SEQUENCES, decode),
        mixed=Curve(STEP_TOKENS, mixed),
        decode_fixed_s=0.0,
        decode_sequence_s=0.0,
        decode_kv_token_s=kv_bytes / split.tensor / (on.memory_bytes_s * shares.cache_memory),
        prefill_fixed_s=0.0,
        prefill_token_s=0.0,
        prefill_pair_s=of.pair_flop / split.tensor / (on.flop_s("bf16") * shares.attention_compute),
        host_s=_HOST_S,
    )


def error(split: Parallelism) -> tuple[float, float, float, float]:
    """How far off the prior usually is: of decode steps the mean and what 95 % stay below, then of prefill."""
    return _ERROR_EXPERTS_SPLIT if split.expert > 1 else _ERROR


def _matrices_s(
    tokens: int, on: Accelerator, of: Model, split: Parallelism, precision: str, shares: Shares
) -> float:
    active = of.active_parameters / of.parameters
    touched = 1.0 - (1.0 - active) ** tokens if active < 1.0 else 1.0
    read_s = of.weight_bytes(precision) * touched / split.tensor / (on.memory_bytes_s * shares.weights_memory)
    # The embedding is looked up, not multiplied.
    multiplied = max(of.active_parameters - of.vocabulary * of.hidden, 0.5 * of.active_parameters)
    compute_s = 2.0 * multiplied * tokens / split.tensor / (on.flop_s(precision) * shares.matrix_compute)
    layer_s = shares.layer_s + _all_reduces_s(tokens, on, of, split, shares)
    if split.expert > 1:
        layer_s += shares.experts_layer_s
    return max(read_s, compute_s) + of.layers * layer_s


def _all_reduces_s(tokens: int, on: Accelerator, of: Model, split: Parallelism, shares: Shares) -> float:
    """The two all-reduces of a layer: each accelerator sends nearly twice the activations (ring)."""
    if split.tensor == 1:
        return 0.0
    sent_bytes = 2.0 * (split.tensor - 1) / split.tensor * tokens * of.hidden * 2.0
    return 2.0 * (shares.all_reduce_s + sent_bytes / ((on.link_bytes_s or _LINK_BYTES_S) * shares.link))
