"""The same requests through Vidur and through the twin, with the same step times, in one run.

Requests come at random (Poisson) with the lengths of Azure's conversations of 2023, cut at 4,096 tokens as Vidur's
models are. Vidur replays them from a file in its own format; the twin reads the same file. Vidur's profiles of
matrix products come with it; those of attention may be missing from a checkout (they are large files stored
elsewhere) and are then written anew from the cost tables that ``bench/fidelity`` has of such a run. The twin's
engines use the same tables, so what differs is the rules, and the time that it takes to reckon with them.

Timed is processor time: of Vidur its ``Simulator.run()``, with all that it can write left out and its predictions
in its cache; of the twin all of a run but setting up its world, with everything that ``underlay twin run`` does.
Vidur gives requests to its replicas in turns, which takes it least; the twin is timed with its whole desk in the
loop and the default policy. Latencies are compared where both give them in turns. (Vidur's "least outstanding
requests" counts only those that wait, so that idle and busy replicas look alike and the first get most.)
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fidelity import vidur as reference
from fidelity.runs import DATA
from harness import Figures, median

from underlay.twin import simulation
from underlay.twin.crowd import trace_files
from underlay.twin.scenario import Scenario

REPLICAS = 16
#: What one A100 with Llama 3 8B was given in the reference run.
RATE = 6.45
REQUESTS = 8_192
CONTEXT_TOKENS = 4_096
RUNS = 3
SEED = 42
LAYERS = 32
MODEL = "meta-llama/Meta-Llama-3-8B"
PERCENTILES = (50, 90, 99)
NAMES = ("TTFT", "TPOT", "E2E")
_DRIVER = Path(__file__).with_name("vidur_run.py")
_PREDICTOR = "random_forrest_execution_time_predictor_config"


class Ran(NamedTuple):
    """Seconds of processor time, and TTFT, TPOT and E2E of all requests, in seconds."""

    took_s: float
    latencies_s: Sequence[Any]


def vidur(figures: Figures, checkout: Path, python: Path) -> None:
    """Run both by turns; ``python`` is one that has what Vidur needs."""
    _complete(checkout)
    tables = json.loads(gzip.decompress((DATA / "vidur/costs.json.gz").read_bytes()))
    with tempfile.TemporaryDirectory(prefix="underlay-bench-") as folder:
        trace = Path(folder) / "requests.csv"
        _write_trace(trace)
        theirs, ours = list[Ran](), list[Ran]()
        _theirs(checkout, python, trace, Path(folder))  # it trains its predictors, and keeps them
        for _ in range(RUNS):
            theirs.append(_theirs(checkout, python, trace, Path(folder)))
            ours.append(_ours(trace, tables))
        alike = _ours(trace, tables, routing="round_robin")
    speeds = [REQUESTS / median([ran.took_s for ran in runs]) for runs in (theirs, ours)]
    how = f"{REQUESTS:,} requests, {REPLICAS} replicas, {RATE * REPLICAS:.1f} a second; median of {RUNS}, by turns"
    figures.add("vidur: requests, Vidur", speeds[0], "/s", how=f"{how}; Simulator.run(), least metrics")
    figures.add("vidur: requests, the twin", speeds[1], "/s", how=f"{how}; desk in the loop, all records")
    figures.add("vidur: the twin over Vidur", speeds[1] / speeds[0], "times", how="medians of the same run")
    for number, name in enumerate(NAMES):
        was, said = (_percentiles(ran.latencies_s[number]) for ran in (theirs[0], alike))
        for percentile, a, b in zip(("mean", *(f"p{q}" for q in PERCENTILES)), was, said, strict=True):
            off = f"Vidur {1e3 * a:,.1f} ms, the twin {1e3 * b:,.1f} ms"
            figures.add(f"vidur: {name} {percentile}, the twin beside Vidur", 100 * (b / a - 1), "%", how=off)


def _percentiles(values: Any) -> list[float]:
    known = values[~np.isnan(values)]
    return [float(known.mean()), *map(float, np.percentile(known, PERCENTILES))]


def _write_trace(path: Path) -> None:
    """Requests in Vidur's format of traces; prompts are cut where it would cut them."""
    dice = random.Random(SEED)
    lengths = [
        (row.prompt_tokens, row.output_tokens) for row in trace_files.read(trace_files.locate("azure-2023-conv"))
    ]
    at_s = 0.0
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["arrived_at", "num_prefill_tokens", "num_decode_tokens"])
        for _ in range(REQUESTS):
            at_s += dice.expovariate(RATE * REPLICAS)
            prompt, output = dice.choice(lengths)
            output = min(output, CONTEXT_TOKENS // 2)
            lines.writerow([f"{at_s:.6f}", min(prompt, CONTEXT_TOKENS - output), output])


# Theirs.


def _theirs(checkout: Path, python: Path, trace: Path, folder: Path) -> Ran:
    told = folder / "theirs.json"
    flags = {
        "seed": 42,
        "cluster_config_num_replicas": REPLICAS,
        "replica_config_device": "a100",
        "replica_config_network_device": "a100_dgx",
        "replica_config_model_name": MODEL,
        "global_scheduler_config_type": "round_robin",
        "request_generator_config_type": "trace_replay",
        "trace_request_generator_config_trace_file": trace,
        "trace_request_generator_config_max_tokens": CONTEXT_TOKENS,
        "replica_scheduler_config_type": "sarathi",
        "sarathi_scheduler_config_batch_size_cap": reference.MAX_SEQUENCES,
        "sarathi_scheduler_config_chunk_size": reference.STEP_TOKENS,
        "execution_time_predictor_config_type": "random_forrest",
        f"{_PREDICTOR}_num_estimators": 250,
        f"{_PREDICTOR}_max_depth": 32,
        f"{_PREDICTOR}_min_samples_split": 2,
        f"{_PREDICTOR}_k_fold_cv_splits": 2,
        f"{_PREDICTOR}_num_training_job_threads": 1,
        "metrics_config_output_dir": folder / "output",
        "metrics_config_cache_dir": checkout / "cache",
    }
    left_out = [
        *("write_metrics", "enable_chrome_trace", "store_plots", "store_batch_metrics"),
        "store_utilization_metrics",
    ]
    command = [str(python), str(_DRIVER), str(told)]
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    command += [f"--no-metrics_config_{name}" for name in left_out]
    env = {**os.environ, "PYTHONPATH": str(checkout), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Vidur failed:\n{done.stderr[-3000:]}")
    found = json.loads(told.read_text(encoding="utf-8"))
    rows = np.array(found["requests"])  # arrived, first token, last token, output tokens
    arrived, first, last, tokens = rows.T
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot = np.where(tokens > 1, (last - first) / (tokens - 1), np.nan)
    return Ran(found["took_s"], (first - arrived, tpot, last - arrived))


def _complete(checkout: Path) -> None:
    """Write the profile of attention if it is missing; Vidur takes medians in milliseconds for each layer."""
    path = checkout / "data/profiling/compute/a100" / MODEL / "attention.csv"
    if path.exists() and path.stat().st_size > 1_000:  # not a pointer to a large file
        return
    tables = json.loads(gzip.decompress((DATA / "vidur/costs.json.gz").read_bytes()))
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, [*_SHAPE, "batch_size", "prefill_chunk_size", "kv_cache_size", *_TIMES])
        lines.writeheader()
        lines.writerows(_attention(tables))


_SHAPE = {
    "n_embd": 4096,
    "n_q_head": 32,
    "n_kv_head": 8,
    "block_size": 16,
    "num_tensor_parallel_workers": 1,
}
_TIMES = [f"time_stats.attn_{what}.median" for what in ("prefill", "decode", "kv_cache_save")]


def _attention(tables: dict[str, Any]) -> Iterator[dict[str, float]]:
    """Rows of prompts and of batches; between the tables' own points straight lines."""
    decode = reference.Table(tables["attn_decode_ms_B_meankv"])
    prefill = reference.Table(tables["attn_prefill_ms_chunk_kv"])
    save_ms = float(tables["kv_save_ms"]["512"]) / LAYERS
    contexts = range(0, CONTEXT_TOKENS + 1, 64)
    for sequences in (1, 2, 4, *range(8, reference.MAX_SEQUENCES + 1, 4)):
        for context in contexts:
            took_ms = decode.at(sequences, context) / LAYERS
            yield _SHAPE | _row(sequences, 0, context, 0.0, took_ms, save_ms)
    for chunk in (*range(1, 64), *range(64, reference.STEP_TOKENS + 1, 8), 1024, 2048, 4096):
        for context in contexts:
            took_ms = prefill.at(chunk, context) / LAYERS
            yield _SHAPE | _row(1, chunk, context, took_ms, 0.0, save_ms)


def _row(sequences: int, chunk: int, context: int, *times_ms: float) -> dict[str, float]:
    shape = {"batch_size": sequences, "prefill_chunk_size": chunk, "kv_cache_size": context}
    return shape | dict(zip(_TIMES, times_ms, strict=True))


# Ours.


def _ours(trace: Path, tables: dict[str, Any], **policies: str) -> Ran:
    world = simulation.simulation_of(_scenario(trace, tables, policies), SEED)
    for replica in world.world.platforms["home"].replicas.values():
        replica.engine.retime(0.0, reference.Costs(tables))
    began_s = time.process_time()
    world.go(lambda *_: None, lambda: False)
    took_s = time.process_time() - began_s
    requests = world.result().requests
    assert len(requests) == REQUESTS
    assert not requests.column("outcome").any()  # all of them are finished
    return Ran(took_s, (requests.column("ttft_s"), requests.tpot_s(), requests.column("e2e_s")))


def _scenario(trace: Path, tables: dict[str, Any], policies: dict[str, str]) -> Scenario:
    engine = {
        "max_sequences": reference.MAX_SEQUENCES,
        "step_tokens": reference.STEP_TOKENS,
        "blocks": int(tables["num_blocks"]),
        "block_tokens": int(tables["block_size"]),
        "prefix_caching": False,
    }
    model = {"name": "chat", "model": "llama-3.1-8b", "replicas": REPLICAS, "context_tokens": CONTEXT_TOKENS}
    return Scenario.model_validate(
        {
            "name": "vidur",
            "duration": REQUESTS / (RATE * REPLICAS) + 60,
            "models": [{**model, "engine": engine}],
            "crowds": [{"trace": {"path": trace}}],
            "policies": policies,
        }
    )
