"""What each figure means: its unit, which way is better, and how it is reckoned.

One table, so that a summary, a comparison, a report and the manual say the same. The definitions of latency are
those of vLLM's benchmark (``vllm bench serve``): TPOT leaves the first token out.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Better = Literal["higher", "lower", ""]

PERCENTILES = (50, 90, 95, 99)

#: Latencies, and what they are from and to.
LATENCIES = {
    "ttft": "from sending to the first token, at the caller",
    "tpot": "(E2E - TTFT) / (output tokens - 1) of a request, so the mean time per token after the first",
    "e2e": "from sending to the last token, at the caller",
}

_ITL = "time between two tokens at the engine, all tokens of all requests (classes 5 % wide)"

#: Parts of a site's energy, as the energy book has them; together they are ``energy_feeder``.
ENERGY_PARTS = ("accelerators_busy", "accelerators_idle", "host", "power_chain_loss", "cooling")

#: Those that are accelerators'.
ACCELERATOR_PARTS = ENERGY_PARTS[:2]

#: Units of totals: the one that they are told in, and their own size in the smallest of the kind.
COMMON_UNITS: dict[str, tuple[str, float]] = {
    "J": ("kWh", 1.0),
    "Wh": ("kWh", 3.6e3),
    "kWh": ("kWh", 3.6e6),
    "MWh": ("kWh", 3.6e9),
    "gCO2e": ("kgCO2e", 1.0),
    "kgCO2e": ("kgCO2e", 1e3),
    "tCO2e": ("kgCO2e", 1e6),
    "mL": ("L", 1.0),
    "L": ("L", 1e3),
    "m3": ("L", 1e6),
    "USD": ("USD", 1.0),
    "count": ("count", 1.0),
    "s": ("s", 1.0),
}


class Kind(NamedTuple):
    """What a figure is."""

    unit: str
    better: Better
    meaning: str


def _latency_kinds() -> dict[str, Kind]:
    kinds = {f"itl_p{q}": Kind("s", "lower", f"{q}th percentile of: {_ITL}") for q in PERCENTILES}
    for name, meaning in LATENCIES.items():
        kinds[f"{name}_mean"] = Kind("s", "lower", f"mean of: {meaning}; finished requests")
        for q in PERCENTILES:
            kinds[f"{name}_p{q}"] = Kind("s", "lower", f"{q}th percentile of: {meaning}; finished requests")
    return kinds


KINDS: dict[str, Kind] = {
    "requests": Kind("count", "", "arrived, those still open at the end among them"),
    "finished": Kind("count", "", "answered to the last token"),
    "refused": Kind("count", "lower", "turned away before any token"),
    "failed": Kind("count", "lower", "broken off by the platform"),
    "left": Kind("count", "lower", "given up by their callers"),
    "open": Kind("count", "", "neither answered nor lost when the run ended"),
    "retries": Kind("count", "lower", "requests that are another try of one that came to nothing"),
    "slo_attainment": Kind("share", "higher", "of all that arrived: finished within every SLO given"),
    "goodput": Kind("1/s", "higher", "requests finished within every SLO given, per second of the run"),
    "throughput": Kind("1/s", "higher", "requests finished, per second of the run"),
    "output_tokens": Kind("tokens", "higher", "output tokens of finished requests"),
    "output_token_rate": Kind("tokens/s", "higher", "output tokens of finished requests, per second of the run"),
    "cached_share": Kind("share", "higher", "of the prompt tokens of finished requests: found in a prefix cache"),
    **_latency_kinds(),
    "deferrable": Kind("count", "", "arrived that can wait: their latencies are in no figure above"),
    "deferrable_in_time": Kind("share", "higher", "of those that can wait: finished when they were wanted"),
    "held_mean": Kind("s", "", "how long those that can wait were put off, on average"),
    "held_p90": Kind("s", "", "how long those that can wait were put off, 90th percentile"),
    "moved_share": Kind("share", "", "of those that can wait: answered elsewhere than where they were asked"),
    "accelerators_busy": Kind("kWh", "", "energy of accelerators while they compute"),
    "accelerators_idle": Kind("kWh", "lower", "energy of accelerators that are on and wait"),
    "energy_accelerators": Kind("kWh", "lower", "energy of accelerators, busy or not"),
    "host": Kind("kWh", "lower", "energy of processors, memory, drives, network cards and fans"),
    "power_chain_loss": Kind("kWh", "lower", "energy lost between feeder and servers"),
    "cooling": Kind("kWh", "lower", "energy of fans, pumps and chillers"),
    "host_active": Kind("kWh", "", "energy of hosts that goes with busy accelerators"),
    "accelerator_hours": Kind("h", "", "time in which accelerators computed, added up"),
    "energy_it": Kind("kWh", "lower", "energy of servers at their plugs"),
    "energy_feeder": Kind("kWh", "lower", "all energy, cooling and losses included"),
    "storage": Kind("kWh", "", "energy of keeping weights outside the servers: beside all energy, not in it"),
    "pue": Kind("ratio", "lower", "all energy over that of servers at their plugs"),
    "energy_per_token": Kind("J/token", "lower", "all energy over output tokens of finished requests"),
    "carbon": Kind("kgCO2e", "lower", "of all energy, by the average of the grid where it is drawn"),
    "water_on_site": Kind("L", "lower", "evaporated by cooling on site"),
    "water_off_site": Kind("L", "lower", "evaporated by power stations for all energy"),
    "water": Kind("L", "lower", "evaporated, on site and off"),
    "accelerators_cost": Kind("USD", "lower", "hire of all accelerators at their prices"),
    "electricity_cost": Kind("USD", "lower", "of all energy"),
    "cost": Kind("USD", "lower", "of everything whose price is known"),
    "cost_per_mtok": Kind("USD/Mtok", "lower", "cost over a million output tokens of finished requests"),
    "revenue": Kind("USD", "higher", "charged to callers by the models' prices"),
    "utilisation": Kind("share", "", "of the time of all replicas: spent computing; mean of the samples"),
}

_ACRONYMS = {"slo": "SLO", "ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "itl": "ITL", "pue": "PUE", "it": "IT"}

#: Names that say too little by themselves.
_TITLES = {
    "accelerators_busy": "energy of busy accelerators",
    "accelerators_idle": "energy of idle accelerators",
    "energy_accelerators": "energy of accelerators",
    "host": "energy of hosts",
    "host_active": "energy of busy hosts",
    "cooling": "energy of cooling",
    "storage": "energy of storage, beside",
    "energy_it": "energy of IT",
    "energy_feeder": "energy",
    "accelerators_cost": "cost of accelerators",
    "electricity_cost": "cost of electricity",
    "cost_per_mtok": "cost per million tokens",
}


class Figure(NamedTuple):
    """A figure of a run. ``method`` is one of the ledger's ``METHODS``."""

    name: str
    value: float
    unit: str
    method: str

    @classmethod
    def of(cls, name: str, value: float, method: str, unit: str = "") -> Figure:
        """A figure in the unit of its kind; ``unit`` is for those that no kind tells of."""
        kind = KINDS.get(name)
        return cls(name, float(value), kind.unit if kind else unit, method)


def title(name: str) -> str:
    """A figure's name as people write it."""
    return _TITLES.get(name) or " ".join(_ACRONYMS.get(word, word) for word in name.split("_"))


def better(name: str) -> Better:
    """Which way is better; empty where that depends."""
    return KINDS[name].better if name in KINDS else ""
