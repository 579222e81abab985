"""Fit the shipped power curves again, and tell how far off a curve is that was not fitted.

`python bench/fidelity/power.py RUNS.csv` compares with what is shipped; `--write` ships it. The runs are those of
the ML.ENERGY Leaderboard 3.0 (github.com/ml-energy/leaderboard, public/data): its repository names no licence, so
they are not kept here, only what is fitted to them. A row needs the columns model, task, weight_precision, gpu,
num_gpus, dp, avg_batch and avg_power_w_total.

Of each group the chat runs are taken; runs of the long reasoning task (gpqa) only where there are too few. On B200
with one accelerator those drew half the power at several times the step time (33 ms against 7 ms for Qwen3 14B at
batch 8): they show a host that keeps the accelerator waiting. Code completion is left out: most of its energy is
prefill.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "bench")]

from underlay.physics import catalogue, power  # noqa: E402

SHIPPED = ROOT / "src/underlay/physics/data/power_curves.csv"
COLUMNS = (
    "accelerator", "model", "accelerators", "precision", "low_w", "rise_w", "half_sequences", "doubling_w",
    "sequences_min", "sequences_max", "runs", "error_mean", "error_max",
)  # fmt: skip
ACCELERATORS = {"H100": "h100-sxm", "B200": "b200-sxm"}
PRECISIONS = {"bfloat16": "bf16"}
#: Names there to names in our catalogue; models of equal architecture share a curve.
MODELS = (
    (re.compile(r"Qwen3-(14B|32B|8B)\Z"), r"qwen3-\1"),
    (re.compile(r"Qwen3-30B-A3B-.*"), "qwen3-30b-a3b"),
    (re.compile(r"Qwen3-235B-A22B-.*"), "qwen3-235b-a22b"),
    (re.compile(r"DeepSeek-(V3\.1|R1-0528)\Z"), "deepseek-v3-671b"),
    (re.compile(r"gemma-3-(12|27)b-it\Z"), r"gemma-3-\1b"),
    (re.compile(r"Llama-3\.1-(8B|405B)-Instruct(-FP8)?\Z"), r"llama-3.1-\1"),
    (re.compile(r"Llama-3\.[13]-70B-Instruct\Z"), "llama-3.1-70b"),
    (re.compile(r"Llama-4-(Scout-17B-16E|Maverick-17B-128E)-.*"), r"llama-4-\1"),
    (re.compile(r"(gpt-oss-(?:20|120)b)\Z"), r"\1"),
)
TASKS = ("lm-arena-chat", "gpqa")
#: Fewer batches than that do not show a curve.
BATCHES_MIN = 3
#: From the least batch that was measured: below it the curve is a guess, and must stay near what was seen.
HALVES = [2.0 ** (exponent / 4) for exponent in range(12, 41)]


class Run(NamedTuple):
    """Decoding sequences, and watts per accelerator."""

    sequences: float
    power_w: float


Groups = Mapping[power.Key, Sequence[Run]]


def read(path: Path) -> Groups:
    """The runs by group, of one task each."""
    found: dict[tuple[power.Key, str], list[Run]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = model(row["model"].split("/")[-1])
            if name is None or row["task"] not in TASKS:
                continue
            count = int(row["num_gpus"])
            precision = PRECISIONS.get(row["weight_precision"], row["weight_precision"])
            run = Run(float(row["avg_batch"]) / int(row["dp"]), float(row["avg_power_w_total"]) / count)
            found[power.Key(ACCELERATORS[row["gpu"]], name, count, precision), row["task"]].append(run)
    groups: dict[power.Key, Sequence[Run]] = {}
    for task in reversed(TASKS):
        groups |= {key: runs for (key, said), runs in found.items() if said == task and enough(runs)}
    return dict(sorted(groups.items()))


def enough(runs: Iterable[Run]) -> bool:
    """Are there so many different batches that they show a curve?"""
    return len({round(np.log2(run.sequences)) for run in runs}) >= BATCHES_MIN


def model(name: str) -> str | None:
    """The name in our catalogue."""
    said = next((pattern.sub(ours, name).lower() for pattern, ours in MODELS if pattern.match(name)), None)
    return said if said in catalogue.models() else None


def fit(runs: Sequence[Run]) -> power.Fit:
    """Least relative squares of low + rise·B/(B + half), over a grid of half.

    A curve that falls is not believed: the mean is taken. On B200 small models drew less at greater batches, as
    their hosts kept them waiting.
    """
    watts = np.array([run.power_w for run in runs])
    best = (np.inf, 0.0, 0.0, 1.0)
    for half in HALVES:
        if half > 2.0 * max(run.sequences for run in runs):
            break  # beyond it the curve is a line, and its end far outside of what was seen
        rises = np.array([run.sequences / (run.sequences + half) for run in runs])
        low, rise = solved(np.column_stack([np.ones_like(rises), rises]), watts)
        if rise < 0.0:
            low, rise = solved(np.ones((len(runs), 1)), watts)[0], 0.0
        off = float(np.square((low + rise * rises) / watts - 1.0).sum())
        best = min(best, (off, low, rise, half))
    return power.Fit(*best[1:], 0.0, int(max(run.sequences for run in runs)), 0.0, 0.0)


def fit_any(groups: Groups) -> power.Fit:
    """One curve for all groups, in shares of rated power, with a term for the weights each accelerator reads."""
    best = (np.inf, 0.0, 0.0, 1.0, 0.0)
    shares = np.array([run.power_w / rated(key) for key, runs in groups.items() for run in runs])
    sizes = np.array([power.doublings(key) for key, runs in groups.items() for _ in runs])
    batch = np.array([run.sequences for runs in groups.values() for run in runs])
    for half in HALVES:
        terms = np.column_stack([np.ones_like(batch), batch / (batch + half), sizes])
        low, rise, doubling = solved(terms, shares)
        off = float(np.square(terms @ [low, rise, doubling] / shares - 1.0).sum())
        best = min(best, (off, low, rise, half, doubling))
    return power.Fit(*best[1:], int(batch.max()), 0.0, 0.0)


def solved(terms: npt.NDArray[np.float64], said: npt.NDArray[np.float64]) -> list[float]:
    """The factors with the least relative squares."""
    factors, *_ = np.linalg.lstsq(terms / said[:, None], np.ones_like(said), rcond=None)
    return [float(factor) for factor in factors]


def fitted(groups: Groups) -> list[dict[str, str]]:
    """The shipped table: one row for each group, and one for any other, with its error on groups left out."""
    rows = [row(key, fit(runs), runs, errors(runs, fit(runs))) for key, runs in groups.items()]
    every = [run for runs in groups.values() for run in runs]
    off = left_out(groups)
    return [*rows, row(power.ANY, fit_any(groups), every, off)]


def left_out(groups: Groups) -> list[float]:
    """The mean error on each group of the curve for any model, fitted to all other groups."""
    means = []
    for key, runs in groups.items():
        general = fit_any({other: those for other, those in groups.items() if other != key})
        said = general.of(rated(key), power.doublings(key))
        means.append(statistics.mean(errors(runs, said)))
    return means


def errors(runs: Sequence[Run], said: power.Fit) -> list[float]:
    """Relative errors without sign."""
    return [abs(said.power_w(run.sequences) / run.power_w - 1) for run in runs]


def rated(key: power.Key) -> float:
    """The rated power of one accelerator."""
    watts = catalogue.accelerator(key.accelerator).power_w
    assert watts is not None
    return watts


def row(key: power.Key, said: power.Fit, runs: Sequence[Run], off: Sequence[float]) -> dict[str, str]:
    """One row, rounded as it is shipped."""
    batches = [run.sequences for run in runs]
    digits = 4 if key == power.ANY else 2
    cells = [
        *key, round(said.low_w, digits), round(said.rise_w, digits), round(said.half_sequences, 2),
        round(said.doubling_w, digits), round(min(batches)), round(max(batches)),
        len(runs), round(statistics.mean(off), 4), round(max(off), 4),
    ]  # fmt: skip
    return dict(zip(COLUMNS, map(str, cells), strict=True))


def main() -> int:
    """Compare or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the runs, as CSV")
    parser.add_argument("--write", action="store_true", help="ship what is fitted")
    options = parser.parse_args()
    groups = read(options.runs)
    rows = fitted(groups)
    if options.write:
        with SHIPPED.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    off = [float(row["error_mean"]) for row in rows[:-1]]
    print(f"{len(off)} groups, mean error: median {statistics.median(off):.1%}, worst {max(off):.1%}")
    means = left_out(groups)
    tail = np.percentile(means, 90)
    print(f"groups left out, any model: median {statistics.median(means):.1%}, p90 {tail:.1%}")
    shipped = list(csv.DictReader(SHIPPED.open(encoding="utf-8")))
    print("as shipped" if shipped == rows else "differs from what is shipped")
    return 0 if shipped == rows else 1


if __name__ == "__main__":
    sys.exit(main())
