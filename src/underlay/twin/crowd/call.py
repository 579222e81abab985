"""A request as its caller makes it, and what every crowd can do.

The length of the answer is in it: only the modelled world knows that, no decision can name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Literal, Protocol

Outcome = Literal["finished", "refused", "failed", "left"]

#: Words as bytes: English in the tokenizers of today has about 4 a token.
BYTES_PER_TOKEN = 4


class Call:
    """One request. Times in seconds from the beginning of the run.

    ``tenant`` says who asks, ``region`` where that is (empty: the world's first region). ``links`` are what prefix
    caches tell prompts apart by: one 64-bit integer for each ``link_tokens`` tokens, standing for everything up to
    it; they may go on into the answer, for the next turn. ``session`` is one of the conversation (0: none).
    ``band`` is the class of urgency asked for (empty: the tenant's), ``deadline_s`` how long the caller waits for a
    first token; ``within_s`` is how long the whole answer may take where it can wait for hours (none: it cannot)
    and ``held_s`` how long it was put off. ``try_`` is its number among the tries of an impatient client, ``turn``
    among those of a conversation; ``more`` is the crowd's own.
    """

    __slots__ = (
        "at",
        "band",
        "deadline_s",
        "held_s",
        "links",
        "model",
        "more",
        "output_tokens",
        "prompt_tokens",
        "region",
        "session",
        "tenant",
        "try_",
        "turn",
        "within_s",
    )

    def __init__(
        self,
        at: float,
        prompt_tokens: int,
        output_tokens: int,
        *,
        model: str = "",
        tenant: str = "",
        region: str = "",
        links: tuple[int, ...] = (),
        session: int = 0,
        band: str = "",
        deadline_s: float | None = None,
        within_s: float | None = None,
        try_: int = 1,
        turn: int = 1,
        more: object = None,
    ) -> None:
        self.at = at
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.model = model
        self.tenant = tenant
        self.region = region
        self.links = links
        self.session = session
        self.band = band
        self.deadline_s = deadline_s
        self.within_s = within_s
        self.held_s = 0.0
        self.try_ = try_
        self.turn = turn
        self.more = more

    def again(self, at: float) -> Call:
        """The same call at another time."""
        return Call(
            at,
            self.prompt_tokens,
            self.output_tokens,
            model=self.model,
            tenant=self.tenant,
            region=self.region,
            links=self.links,
            session=self.session,
            band=self.band,
            deadline_s=self.deadline_s,
            within_s=self.within_s,
            try_=self.try_,
            turn=self.turn,
            more=self.more,
        )

    def __repr__(self) -> str:
        return f"Call({self.at:.3f} s, {self.prompt_tokens}+{self.output_tokens} tokens, {self.tenant!r})"


#: Tenant, band, model, tokens and links of the system prompt, and patience, as ``tenants.Caller`` has them.
Who = tuple[str, str, str, int, tuple[int, ...], float | None]


def calls_of(
    region: str, times: list[float], prompts: list[int], outputs: list[int], callers: Iterable[Who]
) -> list[Call]:
    """Calls out of a region at these times, as long as this, by these callers."""
    made = []
    for at, prompt, output, (tenant, band, model, prefix_tokens, links, deadline_s) in zip(
        times, prompts, outputs, callers, strict=True
    ):
        made.append(
            Call(
                at,
                prompt + prefix_tokens,
                output,
                model=model,
                tenant=tenant,
                region=region,
                links=links,
                band=band,
                deadline_s=deadline_s,
            )
        )
    return made


class Crowd(Protocol):
    """Callers. ``follows`` says whether the ends of its calls matter to it."""

    follows: bool

    def calls(self, dice: Random) -> Iterator[Call]:
        """Its calls that come of nothing but time, in order."""
        ...

    def follow_up(self, call: Call, outcome: Outcome, at: float, dice: Random) -> Call | None:
        """What comes of the end of one of its calls, not before ``at``: the next turn, another try, or nothing."""
        ...

    def rate_per_s(self, at: float) -> float:
        """How many calls a second are to be expected at that time, those that follow others among them."""
        ...

    def sample(self, count: int, dice: Random) -> list[Call]:
        """So many typical calls, at no particular time."""
        ...
