from __future__ import annotations

from copy import deepcopy
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.twin.engine.reference import PagedWalker, Sequence, SlotWalker, Walker
from tests.twin.engine.worlds import TIMES, chain, crowds, play

from underlay.twin.engine import ModelledEngine, PagedRules, Request, SlotRules

TOLERANCE_S = 1e-9  # 1e-6 ms


def same(walker: Walker, engine: ModelledEngine, crowd: list[Sequence]) -> None:
    requests = play(engine, crowd)
    walker.run(crowd)
    for expected, got in zip(crowd, requests, strict=True):
        assert (got.produced, got.cached_tokens, got.preemptions) == (
            expected.produced,
            expected.cached_tokens,
            expected.preemptions,
        ), got
        assert got.first_token_at == pytest.approx(expected.first_token_at, abs=TOLERANCE_S)
        assert got.finished_at == pytest.approx(expected.finished_at, abs=TOLERANCE_S)
        assert got.left
    assert engine.next_at == float("inf")
    assert (engine.running_count, engine.waiting_count, engine.batch.sequences, engine.batch.context_tokens) == (
        0,
    ) * 4
    assert not any(engine.batch.phases)


@quick
@given(data=st.data())
def test_fast_forward_equals_step_by_step_paged(data) -> None:
    blocks = data.draw(st.sampled_from([12, 20, 60, 1000]))  # from never enough to always
    link_blocks = data.draw(st.sampled_from([1, 2]))
    rules = PagedRules(
        blocks=blocks,
        max_sequences=data.draw(st.sampled_from([1, 3, 12])),
        step_tokens=data.draw(st.sampled_from([13, 64])),
        block_tokens=4,
        link_tokens=4 * link_blocks,
        prefix_caching=data.draw(st.booleans()),
        reserves_prompt=data.draw(st.booleans()),
    )
    crowd = data.draw(crowds(link_tokens=rules.link_tokens, context_tokens=min(blocks, 60) * 4))
    engine = ModelledEngine(rules, TIMES)
    same(PagedWalker(rules, TIMES), engine, crowd)
    engine.memory.check()
    assert engine.memory.held_blocks == 0


@quick
@given(data=st.data())
def test_fast_forward_equals_step_by_step_slots(data) -> None:
    rules = SlotRules(
        slots=data.draw(st.integers(1, 5)),
        slot_tokens=100,
        step_tokens=data.draw(st.sampled_from([7, 32])),
        link_tokens=4,
    )
    crowd = data.draw(crowds(link_tokens=4, context_tokens=100))
    same(SlotWalker(rules, TIMES), ModelledEngine(rules, TIMES), crowd)


def test_one_request_alone_takes_what_its_steps_take() -> None:
    engine = ModelledEngine(PagedRules(blocks=1000), TIMES)
    request = Request("a", 100, 5)
    assert engine.arrive(2.0, request)
    engine.advance(1e9)
    first_s = TIMES.prefill_s(100)
    assert request.first_token_at == pytest.approx(2.0 + first_s)
    decode_s = sum(TIMES.decode_step_s(1, 100 + step) for step in (1, 2, 3, 4))
    assert request.finished_at == pytest.approx(2.0 + first_s + decode_s)
    assert (engine.started, engine.ended) == ([request], [request])


def test_progress_is_known_within_a_stretch() -> None:
    engine = ModelledEngine(PagedRules(blocks=1000), TIMES)
    request = Request("a", 100, 1000)
    engine.arrive(0.0, request)
    assert engine.produced(request, 0.0) == 0
    engine.advance(TIMES.prefill_s(100))
    begun_at = request.first_token_at
    assert begun_at is not None
    ends_at = list(accumulate((TIMES.decode_step_s(1, 101 + step) for step in range(999)), initial=begun_at))
    for steps in (0, 1, 7, 300):
        assert engine.produced(request, ends_at[steps] + 1e-6) == 1 + steps
    assert engine.next_at == pytest.approx(ends_at[-1])


def test_who_can_never_be_computed_is_refused_and_an_answer_ends_with_the_context() -> None:
    engine = ModelledEngine(PagedRules(blocks=10, block_tokens=16, context_tokens=120), TIMES)
    assert not engine.arrive(0.0, Request("too long", 120, 1))
    cut = Request("cut", 110, 50)
    assert engine.arrive(0.0, cut)
    engine.advance(1e9)
    assert cut.produced == 10
    roomless = ModelledEngine(PagedRules(blocks=5, block_tokens=16), TIMES)
    assert not roomless.arrive(0.0, Request("no blocks", 60, 30))
    assert roomless.next_at == float("inf")


def test_a_throttled_clock_counts_from_the_next_step() -> None:
    slow = TIMES.throttled(2.0)
    engine = ModelledEngine(PagedRules(blocks=1000), TIMES)
    request = Request("a", 100, 3)
    engine.arrive(0.0, request)
    engine.retime(TIMES.prefill_s(100) / 2, slow)
    engine.advance(1e9)
    assert request.first_token_at == pytest.approx(TIMES.prefill_s(100))
    expected_s = TIMES.prefill_s(100) + slow.decode_step_s(1, 101) + slow.decode_step_s(1, 102)
    assert request.finished_at == pytest.approx(expected_s)


def test_progress_stops_where_a_request_ended() -> None:
    engine = ModelledEngine(PagedRules(blocks=1000), TIMES)
    short, long = Request("short", 10, 3), Request("long", 10, 500)
    engine.arrive(0.0, short)
    engine.arrive(0.0, long)
    engine.advance(1.0)
    assert short.finished_at is not None
    assert engine.produced(short, 1.0) == 3
    assert 3 < engine.produced(long, 1.0) < 500


def test_a_copy_goes_on_alone_to_the_same_end() -> None:
    engine = ModelledEngine(PagedRules(blocks=60, link_tokens=32), TIMES)
    for name in range(12):
        engine.arrive(0.01 * name, Request(name, 100, 40 + name, chain(name % 3, 4)))
    engine.advance(0.2)
    ends = []
    for copied in (deepcopy(engine), engine):
        copied.advance(1e9)
        copied.memory.check()
        ends.append([(r.name, r.first_token_at, r.finished_at, r.cached_tokens) for r in copied.ended])
    assert ends[0] == ends[1]
    assert len(ends[0]) == 12


def test_a_look_at_the_memory_changes_nothing() -> None:
    rules = PagedRules(blocks=1000)
    watched, left_alone = (ModelledEngine(rules, TIMES) for _ in range(2))
    outcomes = []
    for engine in (watched, left_alone):
        requests = [Request(name, 50 + 13 * name, 20 + 7 * name) for name in range(10)]
        for request in requests:
            engine.arrive(0.02 * request.name, request)
            if engine is watched:
                assert 0 <= engine.memory.held_blocks <= rules.blocks
        engine.advance(1e9)
        assert engine.memory.held_blocks == 0
        outcomes.append([(r.first_token_at, r.finished_at) for r in requests])
    assert outcomes[0] == outcomes[1]


def test_the_watcher_sees_every_second_that_was_computed() -> None:
    seen = []
    engine = ModelledEngine(PagedRules(blocks=200), TIMES, watcher=lambda *what: seen.append(what) or 0.0)
    requests = [Request(name, 50 + name, 20 + 7 * name) for name in range(10)]
    for request in requests:
        engine.arrive(0.013 * request.name, request)
    engine.advance(1e9)
    busy_s = sum(steps * (first_s + growth_s * (steps - 1) / 2) for _, steps, first_s, growth_s, _, _ in seen)
    assert busy_s == pytest.approx(max(request.finished_at for request in requests))  # it was never idle
    assert sum(prompt for *_, prompt in seen) == sum(request.prompt_tokens for request in requests)
    decoded = sum(steps * sequences for _, steps, _, _, sequences, _ in seen)
    assert decoded == sum(request.output_tokens - 1 for request in requests)


def test_a_conversation_finds_its_answer_in_the_cache_again() -> None:
    rules = PagedRules(blocks=1000, link_tokens=32)
    engine = ModelledEngine(rules, TIMES)
    links = chain(1, 20)
    first = Request("first", 200, 121, links[:10])  # its answer fills the tenth link
    engine.arrive(0.0, first)
    engine.advance(1e9)
    second = Request("second", 400, 10, links)
    engine.arrive(100.0, second)
    engine.advance(1e9)
    assert second.cached_tokens == 320
    assert second.first_token_at == pytest.approx(100.0 + TIMES.prefill_s(80, cached_tokens=320))


def test_a_chain_that_was_pushed_out_is_computed_again() -> None:
    engine = ModelledEngine(PagedRules(blocks=40, link_tokens=32), TIMES)
    for number, root in enumerate((1, 2, 1, 3, 4, 1)):
        request = Request(number, 300, 2, chain(root, 9))
        engine.arrive(float(number), request)
        engine.advance(number + 0.9)
        engine.memory.check()
        assert request.cached_tokens == {2: 288, 5: 32}.get(number, 0), number  # the beginning is taken last
