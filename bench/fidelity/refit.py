"""Fit every shipped step profile again, from the timings in data/ alone.

`python bench/fidelity/refit.py` compares with what is shipped; `--write` ships it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "bench")]

import msgspec  # noqa: E402
import numpy as np  # noqa: E402
from fidelity.runs import DATA, Name, Run, halves, scored  # noqa: E402

from underlay.physics import catalogue, fitting  # noqa: E402
from underlay.physics.profiles import FitError, Line, RunsError, Validity  # noqa: E402
from underlay.physics.step_time import Curve  # noqa: E402

SHIPPED = ROOT / "src/underlay/physics/data/step_profiles.jsonl"
#: Best of 0, 0.5 and 1 ms against the runs in data/runs.csv on Hopper; on Blackwell the estimates are slow already.
HOST_MS = 0.5
HOST_MS_BLACKWELL = 0.0
#: Estimates that are slower the more there is to compute: their kernels multiply in 16 bits what the engine of the
#: runs multiplied in four to eight (gpt-oss, vLLM 0.15.1 on Blackwell). Reading weights takes as long in both.
SCALED = (Name("b200-sxm", "gpt-oss-120b", "tp1", "mxfp4"), Name("b200-sxm", "gpt-oss-120b", "tp2", "mxfp4"))
#: Kernels timed alone leave out more of the host's work: best of 0, 0.5, 1, 1.5 ms over both runs in data/requests.
HOST_MS_KERNELS = 1.0
ACCELERATORS = {"a100_sxm": "a100-80-sxm", "deepseek-v3": "deepseek-v3-671b"}
#: How often a layer runs its parts; embedding and last norm run once.
PER_LAYER = {
    "qkv_proj": 1, "o_proj": 1, "gate_up_proj": 1, "down_proj": 1, "act_fn": 1, "rotary_emb": 1, "layernorm": 2,
    "qk_norm": 1,
}  # fmt: skip
#: In a step with prompts the head runs once for each sequence; the table is by tokens, so a usual batch is taken.
HEAD_SEQUENCES = 64
#: Mixed steps are fitted where serving goes on: vLLM's usual token budget, and contexts up to this.
MIXED_BUDGET = 2048
MIXED_CONTEXT = 4096


def fitted() -> list[Line]:
    """All profiles; kernels timed on the accelerator come before estimates."""
    lines = {key(line): line for line in (*estimated(), *calibrated())}
    lines |= scaled({name: lines[name] for name in SCALED})
    errors = scored({name: line.coefficients() for name, line in lines.items()}, fitted_to())
    runs = {name: RunsError(round(statistics.median(all_), 4), len(all_)) for name, all_ in errors.items()}
    return [msgspec.structs.replace(line, runs_error=runs.get(name)) for name, line in sorted(lines.items())]


def key(line: Line) -> Name:
    """What a profile is known by."""
    return Name(line.accelerator, line.model, line.parallelism, line.precision)


def fitted_to() -> list[Run]:
    """The runs that profiles were fitted to; they prove nothing about them."""
    return halves(SCALED)[0]


def scaled(lines: dict[Name, Line]) -> dict[Name, Line]:
    """Estimates whose rise above their first knot is scaled, by two shares that fit half of the runs best."""
    runs, others = halves(lines)
    decode, mixed = _shares(lines, runs)
    how = (
        f"; rise of its matrix products times {decode:g} (decoding) and {mixed:g} (with prompts), the best for "
        f"{len(runs)} of {len(runs) + len(others)} runs of vLLM 0.15.1"
    )
    return {
        name: msgspec.structs.replace(
            _scaled(line, decode, mixed),
            method="calibrated",
            source=line.source + how,
            fit_error=msgspec.structs.replace(line.fit_error, against="the estimate before it was scaled to runs"),
        )
        for name, line in lines.items()
    }


def _shares(lines: dict[Name, Line], runs: list[Run]) -> tuple[float, float]:
    """The shares of both rises with the least squares of relative errors: the time per token is linear in them."""
    flat = {name: _scaled(line, 0.0, 0.0).coefficients() for name, line in lines.items()}
    ends = ((1.0, 0.0), (0.0, 1.0))
    full = [{name: _scaled(line, *end).coefficients() for name, line in lines.items()} for end in ends]
    left = [1.0 - run.predicted_ms(flat[run.name]) / run.tpot_ms for run in runs]
    rises = [
        [(run.predicted_ms(costs[run.name]) - run.predicted_ms(flat[run.name])) / run.tpot_ms for costs in full]
        for run in runs
    ]
    decode, mixed = np.linalg.lstsq(np.array(rises), np.array(left), rcond=None)[0]
    return round(float(decode), 2), round(float(mixed), 2)


def _scaled(line: Line, decode: float, mixed: float) -> Line:
    def rise(values: tuple[float, ...], share: float) -> tuple[float, ...]:
        return tuple(round(values[0] + share * (value - values[0]), 4) for value in values)

    return msgspec.structs.replace(
        line, decode_ms=rise(line.decode_ms, decode), mixed_ms=rise(line.mixed_ms, mixed)
    )


def estimated() -> Iterator[Line]:
    """From estimates that combine kernels timed on the accelerator (aiconfigurator)."""
    with gzip.open(DATA / "estimates.jsonl.gz", "rt", encoding="utf-8") as file:
        for text in file:
            yield _from_estimate(json.loads(text))


def _from_estimate(row: dict[str, Any]) -> Line:
    accelerator = ACCELERATORS.get(row["system"], row["system"].replace("_", "-"))
    model, parallelism, precision = [*row["config"].split("/"), "mxfp4"][:3]
    tables = (row["knots_decode_batch"], row["g_decode_ms"], row["knots_tokens"], row["g_ms"])
    decode = [fitting.DecodeStep(n, n * context, ms / 1e3) for n, context, ms in row["decode"]]
    prefill = [fitting.PrefillStep(chunk, cached, ms / 1e3) for chunk, cached, ms in row["prefill"]]
    version = "0.14" if row["system"] == "a100_sxm" else "0.24"
    blackwell = accelerator in {"b200-sxm", "b300-sxm", "gb200", "gb300"}
    return _line(
        (accelerator, ACCELERATORS.get(model, model), parallelism, precision),
        tables, decode, prefill,
        slowdown=0.0,
        host_ms=HOST_MS_BLACKWELL if blackwell else HOST_MS,
        method="modelled",
        source=f"NVIDIA aiconfigurator-core 0.12.0 (Apache-2.0), from kernels timed under vLLM {version}",
        against="the estimate it was fitted to",
        context=max(context for _, context, _ in row["decode"]),
    )  # fmt: skip


def calibrated() -> Iterator[Line]:
    """From kernels that vLLM 0.19 ran on the accelerator itself (LLMServingSim)."""
    for folder in sorted(path for path in (DATA / "kernels").iterdir() if path.is_dir()):
        accelerator, model = folder.name.split("_")
        yield _from_kernels(folder, accelerator, model)


def _from_kernels(folder: Path, accelerator: str, model: str) -> Line:
    layers = catalogue.model(model).layers
    matrices, heads = _matrices(folder, layers), _heads(folder)
    knots = sorted(heads)
    tokens = [n for n in sorted(matrices) if n in knots or n % 64 == 0]
    decode_s = [matrices[n] + heads[n] for n in knots if n in matrices]
    mixed_s = [matrices[n] + heads[min(n, HEAD_SEQUENCES)] if n in heads else matrices[n] + heads[HEAD_SEQUENCES]
               for n in tokens]  # fmt: skip
    attention = _attention(folder, layers)
    tables = ([n for n in knots if n in matrices], [s * 1e3 for s in decode_s], tokens, [s * 1e3 for s in mixed_s])
    decode_curve, mixed_curve = Curve(tables[0], decode_s), Curve(tokens, mixed_s)
    decode = [
        fitting.DecodeStep(n, n * kv, decode_curve.at(n) + s)
        for (chunk, _, n, kv), s in attention.items() if not chunk and n
    ]  # fmt: skip
    prefill = [
        fitting.PrefillStep(chunk, cached, mixed_curve.at(chunk) + s)
        for (chunk, cached, n, _), s in attention.items() if chunk and not n
    ]  # fmt: skip
    return _line(
        (accelerator, model, "tp1", "bf16"),
        tables, decode, prefill,
        slowdown=fitting.fit_mixed_slowdown(list(_mixed(attention, accelerator, model))),
        host_ms=HOST_MS_KERNELS,
        method="calibrated",
        source="kernels timed under vLLM 0.19 by LLMServingSim (MIT, (c) 2024 CASYS Lab at KAIST)",
        against="the kernels it was fitted to, added up",
        context=max(kv for _, _, _, kv in attention),
    )  # fmt: skip


def _mixed(
    attention: dict[tuple[int, int, int, int], float], accelerator: str, model: str
) -> Iterator[fitting.MixedAttention]:
    """Mixed kernels beside their two parts, where such a step fits the cache and the token budget."""
    on, of = catalogue.accelerator(accelerator), catalogue.model(model)
    capacity = catalogue.kv_capacity_tokens(on, of, catalogue.Parallelism(), "bf16")
    for (chunk, cached, n, kv), together_s in attention.items():
        prompts_s, decode_s = attention.get((chunk, cached, 0, 0)), attention.get((0, 0, n, kv))
        usual = (
            max(cached, kv) <= MIXED_CONTEXT and chunk + n <= MIXED_BUDGET and n * kv + cached + chunk <= capacity
        )
        if chunk and n and usual and prompts_s and decode_s:
            yield fitting.MixedAttention(n, together_s, prompts_s + decode_s)


def _line(
    names: tuple[str, str, str, str], tables: Any, decode: list[Any], prefill: list[Any],
    *, slowdown: float, host_ms: float, method: Any, source: str, against: str, context: int,
) -> Line:  # fmt: skip
    decode_curve, mixed_curve = (Curve(tables[i], [ms / 1e3 for ms in tables[i + 1]]) for i in (0, 2))
    a = fitting.fit_decode(decode, decode_curve)
    b = fitting.fit_prefill(prefill, mixed_curve)
    line = Line(
        *names, "vllm", method, source,
        tuple(tables[0]), tuple(round(ms, 4) for ms in tables[1]),
        tuple(tables[2]), tuple(round(ms, 4) for ms in tables[3]),
        decode_fixed_ms=round(a[0] * 1e3, 5),
        decode_sequence_us=round(a[1] * 1e6, 4),
        decode_kv_token_ns=round(a[2] * 1e9, 4),
        prefill_fixed_ms=round(b[0] * 1e3, 5),
        prefill_token_us=round(b[1] * 1e6, 5),
        prefill_pair_ns=round(b[2] * 1e9, 6),
        mixed_slowdown=round(slowdown, 5),
        host_ms=0.0,
        valid=Validity(tables[0][-1], tables[2][-1], context),
        fit_error=FitError(0.0, 0.0, 0.0, 0.0, against),
    )  # fmt: skip
    cost = line.coefficients()
    of_decode = fitting.spread(
        [cost.decode_step_s(s.sequences, s.kv_tokens) for s in decode], [s.step_s for s in decode]
    )
    of_prefill = fitting.spread(
        [cost.prefill_s(s.tokens, s.cached_tokens) for s in prefill], [s.step_s for s in prefill]
    )
    error = FitError(*(round(e, 4) for e in (*of_decode, *of_prefill)), against)
    return msgspec.structs.replace(line, host_ms=host_ms, fit_error=error)


def _matrices(folder: Path, layers: int) -> dict[int, float]:
    times: dict[int, float] = defaultdict(float)
    for row in _rows(folder / "dense.csv.gz"):
        times[int(row["tokens"])] += float(row["time_us"]) * 1e-6 * PER_LAYER.get(row["layer"], 0) * layers
        if row["layer"] in {"embedding", "final_layernorm"}:
            times[int(row["tokens"])] += float(row["time_us"]) * 1e-6
        elif row["layer"] not in PER_LAYER:
            raise ValueError(f"{folder}: a kernel of unknown kind, {row['layer']}")
    return times


def _heads(folder: Path) -> dict[int, float]:
    times: dict[int, float] = defaultdict(float)
    for row in _rows(folder / "per_sequence.csv.gz"):
        times[int(row["sequences"])] += float(row["time_us"]) * 1e-6
    return times


def _attention(folder: Path, layers: int) -> dict[tuple[int, int, int, int], float]:
    return {
        (int(row["prefill_chunk"]), int(row["kv_prefill"]), int(row["n_decode"]), int(row["kv_decode"])):
            float(row["time_us"]) * 1e-6 * layers
        for row in _rows(folder / "attention.csv.gz")
    }  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def encode(lines: list[Line]) -> bytes:
    """The file, a profile a line."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def main() -> int:
    """Compare with what is shipped, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="ship what was fitted")
    lines = fitted()
    if parser.parse_args().write:
        SHIPPED.write_bytes(encode(lines))
    equal = SHIPPED.read_bytes() == encode(lines)
    print(f"{len(lines)} profiles, {'equal to' if equal else 'DIFFERENT from'} what is shipped")
    return 0 if equal else 6


if __name__ == "__main__":
    sys.exit(main())
