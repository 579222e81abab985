"""What every bench shares: figures with their targets, the machine, one object at the end."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Figures:
    """Collects figures; prints each as it comes (stderr), and all of them at the end (stdout)."""

    def __init__(self, bench: str) -> None:
        self._bench = bench
        self._figures: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        aim: float | None = None,
        how: str = "",
    ) -> None:
        """Add a figure with what it must be, at most or at least; ``aim``, further the same way, is hoped for."""
        must = at_most if at_most is not None else at_least
        met = None
        if at_most is not None:
            met = value <= at_most
        elif at_least is not None:
            met = value >= at_least
        sign = "" if must is None else ("<= " if at_most is not None else ">= ")
        self._figures.append(
            {
                "name": name,
                "value": value,
                "unit": unit,
                "must": f"{sign}{must}" if sign else None,
                "aim": None if aim is None else f"{sign}{aim}",
                "met": met,
                "how": how,
            }
        )
        mark = {True: "met", False: "MISSED", None: ""}[met]
        print(
            f"{name:52} {value:10.3f} {unit:9} {sign}{must if sign else '':<8} {mark}", file=sys.stderr, flush=True
        )

    def report(self, *, as_json: bool) -> int:
        """Print everything; the exit status is 6 if a figure was missed."""
        if as_json:
            print(
                json.dumps(
                    {
                        "bench": self._bench,
                        "command": shlex.join(sys.argv),
                        "machine": machine(),
                        "figures": self._figures,
                    }
                )
            )
        return 6 if any(figure["met"] is False for figure in self._figures) else 0


def machine() -> dict[str, Any]:
    """The machine, as far as it matters to the figures."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
        "kernel": platform.release(), "load_1m": os.getloadavg()[0],
    }  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of all lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values) if values else float("nan")
