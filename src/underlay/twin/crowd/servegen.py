"""Clients as Alibaba saw them: each with rates and bursts that change every ten minutes, and lengths of its own.

From ServeGen (arXiv 2505.09999): for each client and window a rate and the shape of its gaps, Gamma or Weibull,
and every six hours quantiles of its prompts and answers. Rates are taken as they were counted; of the gaps' fit
only the shape, since its scale misses the rate by up to several times where a client was seldom there. A window is
a stretch of its own, as if the client had always been calling like that. Prompt and answer are drawn apart: what
they have to do with each other was not published, nor were prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import inf
from random import Random

import numpy as np
import numpy.typing as npt

from underlay.domain.errors import BadRequest

from .arrivals import Arrivals
from .call import Call
from .section import CrowdSection, demand, generators
from .servegen_files import SHARES, WINDOW_S, Busy, Clients, load
from .spreads import whole

Floats = npt.NDArray[np.float64]

_CHUNK = 4096


class ServeGen(CrowdSection, frozen=True):
    """The clients of a set (``deepseek-r1``, ``m-large``, or the path of a file of rates) as tenants.

    Each is a tenant named ``tenant``-number. Windows between ``start_s`` and ``stop_s`` of their own time are run
    through from ``at_s`` of the run on, all rates multiplied alike so that ``mean_rate_per_s`` comes out (none: as
    they were). Tokens are multiplied by the scales. Errors: BadRequest, TraceError.
    """

    clients: str
    mean_rate_per_s: float | None = None
    start_s: float = 0.0
    stop_s: float = inf
    at_s: float = 0.0
    prompt_scale: float = 1.0
    output_scale: float = 1.0
    tenant: str = "client"
    band: str = ""
    region: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        demand(self.mean_rate_per_s is None or 0 < self.mean_rate_per_s < inf, "mean_rate_per_s must be above 0.")
        demand(0 <= self.start_s < self.stop_s, "start_s must be from 0 and below stop_s.")
        demand(0 <= self.at_s < inf, "at_s must be a number from 0.")
        demand(min(self.prompt_scale, self.output_scale) > 0, "scales must be above 0.")

    def calls(self, dice: Random) -> Iterator[Call]:
        """Its calls, in order."""
        return self._calls(load(self.clients), generators(dice, 1)[0])

    def rate_per_s(self, at: float) -> float:
        """Calls a second at that time."""
        own_s = at - self.at_s + self.start_s
        clients = load(self.clients)
        busy = clients.windows.get(own_s // WINDOW_S * WINDOW_S, ()) if self.start_s <= own_s < self.stop_s else ()
        return _scale(self, clients) * sum(each.rate_per_s for each in busy)

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls: of windows and clients by how many they made."""
        clients = load(self.clients)
        (throws,) = generators(dice, 1)
        stretches = self._stretches(clients)
        made = [(at, busy) for at, _, _ in stretches for busy in clients.windows[at] if busy.rate_per_s]
        chosen = dice.choices(made, [busy.rate_per_s for _, busy in made], k=count) if made else []
        calls = []
        for at, busy in chosen:
            prompts, outputs = self._tokens(clients, busy, at, 1, throws)
            calls.append(self._call(0.0, int(prompts[0]), int(outputs[0]), self._name(busy)))
        return calls

    def check(self) -> None:
        """Read the clients, and whether any of them calls in that time."""
        self.expected_calls(load(self.clients))

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call, and the band of each."""
        return {f"{self.tenant}-{client}": self.band for client in load(self.clients).sizes}

    def warnings(self) -> tuple[str, ...]:
        """Who is left out."""
        clients = load(self.clients)
        left_out, known = clients.unsized
        if not left_out:
            return ()
        share = f"{left_out} of {known} clients, {clients.unsized_share:.0%} of all calls,"
        return (f"{self.clients}: {share} are left out: how long theirs were was not published.",)

    def _calls(self, clients: Clients, throws: np.random.Generator) -> Iterator[Call]:
        scale = _scale(self, clients)
        for at, begin, end in self._stretches(clients):
            names: list[str] = []
            drawn: list[Floats] = []
            for busy in clients.windows[at]:
                arrivals = Arrivals(busy.rate_per_s * scale, busy.process, start_s=begin, stop_s=end)
                times = np.concatenate([np.empty(0), *arrivals.times(throws)])
                if len(times):
                    prompts, outputs = self._tokens(clients, busy, at, len(times), throws)
                    drawn.append(np.stack([times, prompts, outputs, np.full(len(times), float(len(names)))]))
                    names.append(self._name(busy))
            if drawn:
                yield from self._in_order(np.concatenate(drawn, axis=1), names)

    def _in_order(self, drawn: Floats, names: list[str]) -> Iterator[Call]:
        """The calls of all clients in one window; by the chunk, as lists take more memory than arrays."""
        order = np.argsort(drawn[0], kind="stable")
        for begin in range(0, len(order), _CHUNK):
            part = drawn[:, order[begin : begin + _CHUNK]]
            ats = (part[0] + (self.at_s - self.start_s)).tolist()
            prompts, outputs, places = part[1:].astype(np.int64).tolist()
            for at, prompt, output, place in zip(ats, prompts, outputs, places, strict=True):
                yield self._call(at, prompt, output, names[place])

    def _call(self, at: float, prompt_tokens: int, output_tokens: int, tenant: str) -> Call:
        return Call(
            at, prompt_tokens, output_tokens, model=self.model, tenant=tenant, region=self.region, band=self.band
        )

    def _tokens(
        self, clients: Clients, busy: Busy, at: float, count: int, throws: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        sizes = clients.sizes_at(busy.client, at)
        prompts = np.interp(throws.random(count), SHARES, sizes.prompt) * self.prompt_scale
        outputs = np.interp(throws.random(count), SHARES, sizes.output) * self.output_scale
        return whole(prompts), whole(outputs)

    def _name(self, busy: Busy) -> str:
        return f"{self.tenant}-{busy.client}"

    def _stretches(self, clients: Clients) -> list[tuple[float, float, float]]:
        """Windows, and from when to when they are run through."""
        return [
            (at, max(at, self.start_s), min(at + WINDOW_S, self.stop_s))
            for at in clients.windows
            if self.start_s - WINDOW_S < at < self.stop_s
        ]

    def expected_calls(self, clients: Clients) -> float:
        """How many calls there are to be before rates are multiplied. Errors: BadRequest if there are none."""
        stretches = self._stretches(clients)
        calls = sum((end - begin) * busy.rate_per_s for at, begin, end in stretches for busy in clients.windows[at])
        if not calls:
            raise BadRequest(
                f"Nobody of {self.clients} calls from {self.start_s:g} to {self.stop_s:g} s.", param="start_s"
            )
        return calls


@lru_cache(maxsize=64)
def _scale(crowd: ServeGen, clients: Clients) -> float:
    """By how much rates are multiplied."""
    if crowd.mean_rate_per_s is None:
        return 1.0
    span_s = min(crowd.stop_s, max(clients.windows) + WINDOW_S) - crowd.start_s
    return crowd.mean_rate_per_s * span_s / crowd.expected_calls(clients)
