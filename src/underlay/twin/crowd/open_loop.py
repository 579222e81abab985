"""Callers who come whether or not those before them were served: what load from a whole population looks like.

The usual mistake of load tests is to wait for answers before asking again, which spares a slow platform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import numpy as np
from msgspec.structs import replace

from . import tenants as who
from .arrivals import Arrivals
from .call import Call, calls_of
from .lengths import Lengths
from .merge import Merged
from .section import CrowdSection, demand, generators
from .tenants import Mix, Region, Tenant
from .trace_formats import BLOCK_TOKENS


class OpenLoop(CrowdSection, frozen=True):
    """Calls that come by ``arrivals``, are as long as ``lengths`` says and are one of ``tenants``' by weight.

    ``link_tokens`` is what one link of a tenant's system prompt stands for; it must be the engines' own.
    """

    arrivals: Arrivals
    lengths: Lengths
    tenants: tuple[Tenant, ...] = ()
    region: str = ""
    model: str = ""
    link_tokens: int = BLOCK_TOKENS

    def __post_init__(self) -> None:
        demand(self.link_tokens >= 1, "link_tokens must be at least 1.")
        who.distinct(self.tenants)

    def calls(self, dice: Random) -> Iterator[Call]:
        """Its calls, in order."""
        return self._calls(*generators(dice, 3))

    def _calls(
        self, for_times: np.random.Generator, for_lengths: np.random.Generator, for_tenants: np.random.Generator
    ) -> Iterator[Call]:
        mix = Mix(self.tenants, self.model, self.link_tokens)
        for times in self.arrivals.times(for_times):
            yield from self._made(times.tolist(), mix, for_lengths, for_tenants)

    def _made(
        self, times: list[float], mix: Mix, for_lengths: np.random.Generator, for_tenants: np.random.Generator
    ) -> list[Call]:
        prompts, outputs = self.lengths.draw(len(times), for_lengths)
        callers = mix.draw(len(times), for_tenants)
        return calls_of(self.region, times, prompts.tolist(), outputs.tolist(), callers)

    def rate_per_s(self, at: float) -> float:
        """Calls a second at that time."""
        return self.arrivals.rate_at(at)

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls."""
        mix = Mix(self.tenants, self.model, self.link_tokens)
        return self._made([0.0] * count, mix, *generators(dice, 2))

    def check(self) -> None:
        """Read the lengths, if they are recorded."""
        self.lengths.check()

    def tenant_bands(self) -> dict[str, str]:
        """Everybody who may call, and the band of each."""
        return who.bands(self.tenants)

    def across(self, regions: Sequence[Region]) -> Merged:
        """The same calls shared among regions, each with its own day."""
        return Merged(
            [
                replace(self, region=region.name, arrivals=self.arrivals.part(share, region.utc_offset_h))
                for region, share in zip(regions, who.shares(regions), strict=True)
            ]
        )
