"""Small engines and crowds for tests: coefficients with odd numbers, so that no two times fall together by chance."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from hypothesis import strategies as st
from tests.twin.engine.reference import Sequence

from underlay.physics.step_time import Curve, StepCoefficients
from underlay.twin.engine import ModelledEngine, Request

#: About an H100 with Llama 3.1 8B.
TIMES = StepCoefficients(
    decode=Curve([1, 8, 64, 256], [5.751e-3, 5.913e-3, 6.553e-3, 7.821e-3]),
    mixed=Curve([1, 64, 512, 2048, 8192], [5.713e-3, 6.127e-3, 10.931e-3, 40.231e-3, 170.37e-3]),
    decode_fixed_s=4.513e-4,
    decode_sequence_s=3.507e-6,
    decode_kv_token_s=4.1513e-8,
    prefill_fixed_s=5.807e-4,
    prefill_token_s=6.013e-7,
    prefill_pair_s=7.707e-10,
    mixed_slowdown=0.00651,
    host_s=5.03e-4,
)


def chain(root: int, links: int) -> tuple[int, ...]:
    """Links that stand for everything before them, as those of real prompts do."""
    link = root
    return tuple(link := hash((link, index)) for index in range(links))


def play(engine: ModelledEngine, sequences: Iterable[Sequence]) -> list[Request]:
    """Let an engine serve what a reference served; cancellations come in their time."""
    events = []
    requests = []
    for sequence in sequences:
        request = Request(sequence.name, sequence.prompt_tokens, sequence.goal, sequence.links)
        requests.append(request)
        events.append((sequence.at, sequence.name, engine.arrive, request))
        if sequence.cancel_at < float("inf"):
            events.append((sequence.cancel_at, sequence.name, engine.cancel, request))
    for at, _, happens, request in sorted(events, key=lambda event: event[:2]):
        happens(at, request)
    engine.advance(1e12)
    return requests


@st.composite
def crowds(draw, *, link_tokens: int, context_tokens: int, size: int = 25) -> list[Sequence]:
    """Requests in bursts and lulls, alike and unlike, some of which lose patience; a seed draws them, so that they are many."""
    random = Random(draw(st.integers(0, 1 << 32)))
    pace_s = draw(st.sampled_from([0.0, 0.003, 0.03, 0.3]))
    alike = draw(st.sampled_from([0.0, 0.5, 1.0]))
    impatient = draw(st.sampled_from([0.0, 0.3]))
    longest = draw(st.sampled_from([4, 40, context_tokens // 2]))
    sequences = []
    at = 0.0
    for name in range(draw(st.integers(1, size))):
        at += random.expovariate(1.0) * pace_s
        output = random.randint(1, longest)
        prompt = random.randint(1, min(longest, context_tokens - output))
        links = chain(random.randrange(3), (prompt + output + 5) // link_tokens) if random.random() < alike else ()
        if links and random.random() < 0.3:  # it goes its own way from somewhere on
            part = random.randrange(len(links))
            links = links[:part] + chain(1000 + name, len(links) - part)
        cancel_at = at + random.expovariate(1.0) * 0.2 if random.random() < impatient else float("inf")
        sequences.append(Sequence(name, at, prompt, output, links, cancel_at))
    return sequences
