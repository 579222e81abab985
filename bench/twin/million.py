"""A million requests over a thousand replicas: how long, and how much memory?

In a process of its own, so that its memory is its own. Timed is all of ``simulation.run``: setting up the world,
the requests, and what is still to be answered when the last has come. Without the start of Python and its imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import underlay

REQUESTS = 1_000_000
REPLICAS = 1_000
_BENCH = Path(__file__).resolve().parents[1]


def million(figures: Any) -> None:
    """Processor seconds and the highest resident memory."""
    paths = [str(Path(underlay.__file__).parents[1]), str(_BENCH)]
    told = f"import sys; sys.path[:0] = {paths!r}; from twin import million; million.child()"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    how = (
        f"processor time of the whole run, {found['took_s']:.1f} s for {found['requests']:,} requests, "
        f"{found['finished']:,} of them finished; {found['clock_s']:.0f} s by the clock"
    )
    took_s = found["took_s"] / found["requests"] * REQUESTS
    figures.add("million: 1,000,000 requests, 1,000 replicas", took_s, "s", at_most=80, aim=35, how=how)
    how = f"highest resident memory of the process; {found['before_gb']:.2f} GB before the run"
    figures.add("million: memory", found["memory_gb"], "GB", at_most=2.0, how=how)


def child() -> None:
    """Run it and print what it took."""
    from twin import desk  # noqa: PLC0415 -- only in the process that runs it
    from underlay.twin import simulation  # noqa: PLC0415

    rate = desk.SMALL_RATE
    asked = desk.scenario(REPLICAS, desk.SMALL, rate, 1.002 * REQUESTS / (rate * REPLICAS))
    before_gb = memory_gb()
    began_s, clock_s = time.process_time(), time.monotonic()
    result = simulation.run(asked, desk.SEED)
    took_s, clock_s = time.process_time() - began_s, time.monotonic() - clock_s
    told = {
        "took_s": took_s,
        "clock_s": clock_s,
        "requests": len(result.requests),
        "finished": int((result.requests.column("outcome") == 0).sum()),
        "before_gb": before_gb,
        "memory_gb": memory_gb(),
    }
    json.dump(told, sys.stdout)


def memory_gb() -> float:
    """The most memory that this process has had resident; ``getrusage`` counts its parent's before it began."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9
