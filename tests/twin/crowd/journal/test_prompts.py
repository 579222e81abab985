"""Links of recorded prompts: they share as much as their digests do, and never more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.twin.crowd.journal.prompts import Linker
from underlay.twin.crowd.journal.survey import Words


def common(one, other):
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@given(st.floats(1 / 16, 1.0), st.floats(0.0, 300.0), st.integers(1, 64), st.integers(0, 40), st.integers(0, 40))
@quick
def test_prompts_share_no_more_tokens_than_bytes(tokens_per_byte, opening, link_tokens, shared, own):
    linker = Linker("m", Words(tokens_per_byte, opening), link_tokens)
    beginning = tuple(range(shared))
    one, other = (beginning + tuple(range(start, start + own)) for start in (1000, 2000))
    prompt_tokens = round(opening + tokens_per_byte * 128 * (shared + own)) + 1
    links = [linker.links(blocks, prompt_tokens, "team") for blocks in (one, other)]
    found = common(*links) * link_tokens
    known = opening + tokens_per_byte * 128 * shared
    if own:
        assert found <= known + 1e-6
        assert found >= known - tokens_per_byte * 128 - link_tokens - 1
    assert len(set(links[0])) == len(links[0]) <= prompt_tokens // link_tokens


def test_tenants_and_copies_share_the_template_only():
    linker = Linker("m", Words(0.25, 70.0), 16)
    blocks = tuple(range(20))
    links = [linker.links(blocks, 700, *who) for who in (("a", 0), ("b", 0), ("a", 1))]
    assert common(links[0], links[1]) == common(links[0], links[2]) == 4
    assert links[0] == linker.links(blocks, 700, "a")
