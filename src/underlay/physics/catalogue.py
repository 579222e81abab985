"""What accelerators and models are there, and does one fit into the other?

Published figures only, from two tables beside this module, each row with its source. Peak figures are for dense
matrices. An empty cell means that no source was found: it is never guessed, and whoever needs it is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from underlay.domain.errors import BadRequest
from underlay.physics.lookup import named
from underlay.physics.tables import rows

#: Bytes of a weight; gpt-oss keeps its experts in 4 bits and a shared exponent, the rest in 16.
WEIGHT_BYTES: Mapping[str, float] = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625, "mxfp4": 0.53125}
#: Bytes that an engine keeps free for activations and CUDA graphs: what vLLM 0.19 kept on the one machine where its
#: number of blocks was published (RTX 4090, Llama 3.1 8B: 2,588 blocks of 16 tokens at 0.9 of 25.25 GB).
ENGINE_RESERVE_BYTES = 1.24e9

_PARALLELISM = re.compile(r"tp([1-9]\d*)(?:ep([1-9]\d*))?\Z")


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Over how many accelerators a model is split: each matrix (tensor) and, of a mixture, its experts."""

    tensor: int = 1
    expert: int = 1

    def __str__(self) -> str:
        return f"tp{self.tensor}" + (f"ep{self.expert}" if self.expert > 1 else "")

    @classmethod
    def parse(cls, text: str) -> Parallelism:
        """``tp4`` or ``tp8ep8``. Errors: BadRequest."""
        match = _PARALLELISM.match(text)
        if match is None:
            raise BadRequest(f"{text!r} is no parallelism; write for example tp4, or tp8ep8.", param="parallelism")
        return cls(int(match[1]), int(match[2] or 1))


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator. Bytes, bytes and operations per second, watts; ``link`` is to its neighbours, one way."""

    id: str
    name: str
    memory_bytes: float
    memory_bytes_s: float
    bf16_flop_s: float | None
    fp8_flop_s: float | None
    fp4_flop_s: float | None
    power_w: float | None
    link_bytes_s: float | None
    source: str

    def flop_s(self, precision: str) -> float:
        """Peak of dense matrix products; what it lacks is computed in the next wider. Errors: BadRequest."""
        wider = {"bf16": [self.bf16_flop_s], "fp8": [self.fp8_flop_s, self.bf16_flop_s]}
        # Weights in MXFP4 are widened to 16 bits before they are multiplied (Marlin), also where fp4 exists.
        wider |= {"fp4": [self.fp4_flop_s, *wider["fp8"]], "mxfp4": wider["bf16"]}
        found = next((peak for peak in wider.get(precision, []) if peak), None)
        if found is None:
            raise BadRequest(f"No published peak of {self.name} for {precision}.", param="precision")
        return found


@dataclass(frozen=True, slots=True)
class Model:
    """One model, as far as its size matters. ``kv_token_bytes`` is of all layers, in 16 bits."""

    id: str
    parameters: float
    active_parameters: float
    layers: int
    full_attention_layers: int
    heads: int
    head_size: int | None
    hidden: int
    vocabulary: int
    kv_token_bytes: int
    kv_token_bytes_beyond_window: int
    context_tokens: int | None
    source: str

    @property
    def pair_flop(self) -> float:
        """What attention computes for a pair of tokens, over the layers that see the whole context.

        Twice two operations in each layer for each element of the queries: with keys, with values.
        """
        return 4.0 * self.full_attention_layers * self.heads * (self.head_size or self.hidden / self.heads)

    def weight_bytes(self, precision: str) -> float:
        """The size of all weights. Embedding and head stay in 16 bits. Errors: BadRequest."""
        if precision not in WEIGHT_BYTES:
            raise BadRequest(
                f"{precision!r} is no precision; known are {', '.join(WEIGHT_BYTES)}.", param="precision"
            )
        outer = min(2.0 * self.vocabulary * self.hidden, self.parameters)
        return 2.0 * outer + (self.parameters - outer) * WEIGHT_BYTES[precision]


def accelerator(name: str) -> Accelerator:
    """The accelerator with this id. Errors: NotFound, with what was perhaps meant."""
    return named(accelerators(), name, "accelerator")


def model(name: str) -> Model:
    """The model with this id. Errors: NotFound, with what was perhaps meant."""
    return named(models(), name, "model")


def kv_capacity_tokens(
    on: Accelerator,
    of: Model,
    parallelism: Parallelism,
    precision: str,
    *,
    memory_share: float = 0.9,
    reserve_bytes: float = ENGINE_RESERVE_BYTES,
) -> int:
    """How many tokens the KV cache of one replica holds. Errors: BadRequest if the weights do not even fit.

    The reserve is the least certain figure of all: an engine that says its number of blocks is to be believed.
    """
    free = on.memory_bytes * memory_share - of.weight_bytes(precision) / parallelism.tensor - reserve_bytes
    tokens = int(free * parallelism.tensor / of.kv_token_bytes)
    if tokens <= 0:
        raise BadRequest(
            f"{of.id} in {precision} does not fit {parallelism.tensor} x {on.name}: its weights take "
            f"{of.weight_bytes(precision) / 1e9:.0f} GB of {on.memory_bytes * parallelism.tensor / 1e9:.0f} GB. "
            "Split it over more accelerators or use a smaller precision.",
            param="parallelism",
        )
    return tokens


@cache
def accelerators() -> Mapping[str, Accelerator]:
    """All, by id."""
    return {
        row["id"]: Accelerator(
            id=row["id"],
            name=row["name"],
            memory_bytes=float(row["memory_gb"]) * 1e9,
            memory_bytes_s=float(row["memory_tb_s"]) * 1e12,
            bf16_flop_s=_tera(row["bf16_tflop_s"]),
            fp8_flop_s=_tera(row["fp8_tflop_s"]),
            fp4_flop_s=_tera(row["fp4_tflop_s"]),
            power_w=float(row["power_w"]) if row["power_w"] else None,
            link_bytes_s=float(row["link_gb_s"]) * 1e9 if row["link_gb_s"] else None,
            source=row["source"],
        )
        for row in rows("accelerators.csv")
    }


@cache
def models() -> Mapping[str, Model]:
    """All, by id."""
    return {
        row["id"]: Model(
            id=row["id"],
            parameters=float(row["parameters_b"]) * 1e9,
            active_parameters=float(row["active_parameters_b"]) * 1e9,
            layers=int(row["layers"]),
            full_attention_layers=int(row["full_attention_layers"]),
            heads=int(row["heads"]),
            head_size=int(row["head_size"]) if row["head_size"] else None,
            hidden=int(row["hidden"]),
            vocabulary=int(row["vocabulary"]),
            kv_token_bytes=int(row["kv_token_bytes"]),
            kv_token_bytes_beyond_window=int(row["kv_token_bytes_beyond_window"]),
            context_tokens=int(row["context_tokens"]) if row["context_tokens"] else None,
            source=row["source"],
        )
        for row in rows("models.csv")
    }


def _tera(cell: str) -> float | None:
    return float(cell) * 1e12 if cell else None
