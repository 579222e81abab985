"""Published figures that a good twin should meet, as far as the model of one engine can be asked for them.

The figures are others' (named with each); what is assumed beside them is said in the note of its group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from underlay.physics import catalogue, profiles
from underlay.physics.catalogue import Parallelism
from underlay.twin.engine import ModelledEngine, PagedRules, Request


class Anchor(NamedTuple):
    """A published figure, and the twin's."""

    name: str
    published: float
    ours: float
    unit: str
    method: str


#: Accelerator, split: prompt tokens to milliseconds, and batch to milliseconds a token, of Llama 2 70B over eight.
SPLITWISE = {
    "a100-80-sxm": ({512: 94.0, 2048: 274.0, 8192: 1550.0}, {1: 44.9, 16: 50.4, 64: 71.6}),
    "h100-sxm": ({512: 53.0, 2048: 137.0, 8192: 845.0}, {1: 29.8, 16: 34.2, 64: 50.2}),
}
#: Accelerator, model, split, precision: batch to the median time between tokens in milliseconds.
MLENERGY = {
    ("h100-sxm", "llama-3.1-8b", "tp1", "bf16"): {8: 7.3, 64: 11.5, 256: 26.1, 512: 47.4},
    ("h100-sxm", "llama-3.1-70b", "tp4", "bf16"): {8: 16.6, 64: 22.4, 256: 39.8},
    ("h100-sxm", "llama-3.1-405b", "tp8", "fp8"): {8: 33.2, 64: 39.3, 256: 66.9},
    ("b200-sxm", "llama-3.1-70b", "tp2", "bf16"): {8: 16.4, 64: 21.7, 256: 35.8},
}
MLENERGY_CONTEXT = 300
#: Accelerator, split, precision: tokens a second and accelerator, offline. Llama 2 70B, then Llama 3.1 8B.
MLPERF_70B = {
    ("h100-sxm", "tp2", "fp8"): 3902.0,
    ("h200-sxm", "tp1", "fp8"): 4415.0,
    ("b200-sxm", "tp1", "fp8"): 12864.0,
    ("mi300x", "tp1", "fp8"): 3482.0,
    ("mi325x", "tp1", "fp8"): 4319.0,
    ("rtx-pro-6000-server", "tp1", "fp8"): 3276.0,
}
MLPERF_8B = {
    ("l40s", "tp1", "fp8"): 1642.0,
    ("h100-sxm", "tp1", "fp8"): 5777.0,
    ("h200-sxm", "tp1", "fp8"): 8255.0,
    ("b200-sxm", "tp1", "fp8"): 18370.0,
}
#: Model, prompt and output tokens. The 294 are in MLPerf's rules (tokens_per_sample=294.45), the others assumed.
MLPERF = (("llama-3.1-70b", 300, 294, MLPERF_70B), ("llama-3.1-8b", 870, 128, MLPERF_8B))
SATURATING_REQUESTS = 3_000
SATURATED_SEQUENCES = 1024


def splitwise() -> Iterator[Anchor]:
    """Prompts alone, and steps of batches behind prompts of 512 tokens."""
    for accelerator, (prompts, batches) in SPLITWISE.items():
        found = profiles.find(accelerator, "llama-3.1-70b", "tp8", "bf16")
        cost = found.coefficients
        for tokens, ms in prompts.items():
            ours = 1e3 * cost.prefill_s(tokens)
            yield Anchor(f"{accelerator}, prompt of {tokens:,} tokens", ms, ours, "ms", found.method)
        for batch, ms in batches.items():
            ours = 1e3 * cost.decode_step_s(batch, batch * 512)
            yield Anchor(f"{accelerator}, a token in a batch of {batch}", ms, ours, "ms", found.method)


def mlenergy() -> Iterator[Anchor]:
    """A step that only decodes, with the context assumed."""
    for (accelerator, model, split, precision), batches in MLENERGY.items():
        found = profiles.find(accelerator, model, split, precision)
        for batch, ms in batches.items():
            ours = 1e3 * found.coefficients.decode_step_s(batch, batch * MLENERGY_CONTEXT)
            name = f"{accelerator} {model} {split} {precision}, batch {batch}"
            yield Anchor(name, ms, ours, "ms", found.method)


def mlperf() -> Iterator[Anchor]:
    """The modelled engine with everything at once, by accelerator."""
    for model, prompt_tokens, output_tokens, rows in MLPERF:
        for (accelerator, split, precision), tokens_s in rows.items():
            found = profiles.find(accelerator, model, split, precision)
            ours = saturated(found, prompt_tokens, output_tokens) / Parallelism.parse(split).tensor
            name = f"{accelerator} {model} {split} {precision}"
            yield Anchor(name, tokens_s, ours, "tokens/s", found.method)


def saturated(found: profiles.Profile, prompt_tokens: int, output_tokens: int) -> float:
    """Output tokens a second of a replica that is asked for everything at once."""
    on, of = catalogue.accelerator(found.accelerator), catalogue.model(found.model)
    split = Parallelism.parse(found.parallelism)
    rules = PagedRules(
        blocks=catalogue.kv_capacity_tokens(on, of, split, found.precision) // 16, max_sequences=SATURATED_SEQUENCES
    )
    engine = ModelledEngine(rules, found.coefficients)
    for name in range(SATURATING_REQUESTS):
        assert engine.arrive(0.0, Request(name, prompt_tokens, output_tokens))
    engine.advance(1e9)
    finished_at = engine.ended[-1].finished_at
    assert finished_at is not None
    return SATURATING_REQUESTS * output_tokens / finished_at
