"""What the caller has got, whatever broke in between."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.control.delivery import StrandProgress
from underlay.domain.answer import (
    EngineEvent,
    Piece,
    Resume,
    Strand,
    StrandEnd,
    TokenLogprob,
    ToolCallDelta,
)
from underlay.domain.prompt import ToolCall

# An engine of the strictest kind: the answer is a fixed row of tokens, each an id with its text. Some text is
# withheld until a later token shows that it belongs to no stop string, or completes a character.


class Engine:
    """Says the answer's tokens from where a ``Resume`` left off, and checks that it left off cleanly."""

    def __init__(self, texts, withheld, ids):
        self.texts = texts
        self.withheld = [*withheld[:-1], False]  # the last token lets everything go
        self.ids = ids

    def begin(self, resume):
        """The token to go on from."""
        if resume is None:
            return 0
        start = resume.completion_tokens
        assert resume.text == "".join(self.texts[:start])
        assert start == 0 or not self.withheld[start - 1]
        told, place = "", 0
        for part in resume.parts:
            if isinstance(part, int):
                assert part == place, "the ids are the answer's, in order"
                told, place = told + self.texts[place], place + 1
            else:
                told += part
                while len("".join(self.texts[:place])) < len(told):
                    place += 1
        assert told == resume.text
        assert place == start
        return start

    def events(self, start):
        text, ids = "", []
        for number, place in enumerate(range(start, len(self.texts)), 1):
            text += self.texts[place]
            ids.append(place)
            last = place == len(self.texts) - 1
            kept = self.withheld[place]
            shown = self.shown(ids, kept=kept)
            yield EngineEvent(
                piece=None if kept else Piece(text, logprobs=tuple(TokenLogprob(str(i), 0.0) for i in ids)),
                tokens=shown,
                completion_tokens=number,
                end=StrandEnd("stop") if last else None,
            )
            if not kept:
                text, ids = "", []

    def shown(self, ids, *, kept):
        """The ids that come with an event: each with its own, all with the text, or none."""
        if self.ids == "each":
            return (ids[-1],)
        if self.ids == "with text":
            return () if kept else tuple(ids)
        if self.ids == "sometimes":  # none for the parts of a character
            return () if kept or len(ids) > 1 else tuple(ids)
        return ()


@st.composite
def answers(draw):
    texts = draw(st.lists(st.text("ab ö€", min_size=1, max_size=3), min_size=1, max_size=12))
    withheld = draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    return Engine(texts, withheld, draw(st.sampled_from(["each", "with text", "sometimes", "never"])))


@quick
@given(engine=answers(), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_an_answer_cut_anywhere_and_resumed_is_the_undisturbed_one(engine, cuts):
    """I2, I7: nothing missing, nothing twice, each token counted once, however often engines die."""
    strand, sent, resume = StrandProgress(), "", None
    for cut in [*cuts, None]:
        for count, event in enumerate(engine.events(engine.begin(resume))):
            if count == cut:
                break
            piece = strand.accept(event)
            sent += piece.text if piece else ""
        if strand.end is not None:
            break
        assert strand.delivered_tokens <= strand.completion_tokens
        resume = strand.resume()
        assert strand.completion_tokens == strand.delivered_tokens == (resume.completion_tokens if resume else 0)
        assert sent == (resume.text if resume else "")
    assert sent == "".join(engine.texts)
    assert strand.completion_tokens == strand.delivered_tokens == len(engine.texts)
    whole = strand.whole()
    assert whole.text == sent
    assert [entry.token for entry in whole.logprobs] == [str(place) for place in range(len(engine.texts))]


@quick
@given(engine=answers())
def test_parts_are_ids_wherever_the_engine_gave_all_of_them(engine):
    strand = StrandProgress()
    for event in engine.events(0):
        strand.accept(event)
    parts = strand.resume().parts
    if engine.ids in ("each", "with text"):
        assert parts == tuple(range(len(engine.texts)))
    if engine.ids == "never":
        assert parts == ("".join(engine.texts),)
    assert not any(isinstance(a, str) and isinstance(b, str) for a, b in pairwise(parts))


@quick
@given(engine=answers(), cut=st.integers(0, 12))
def test_a_strand_that_starts_afresh_remembers_nothing(engine, cut):
    strand = StrandProgress()
    for count, event in enumerate(engine.events(0)):
        if count == cut:
            break
        strand.accept(event)
    strand.restart()
    assert not strand.delivered
    assert strand.completion_tokens == strand.delivered_tokens == 0
    assert strand.resume() is None
    for event in engine.events(0):
        strand.accept(event)
    assert strand.whole() == Strand("".join(engine.texts), StrandEnd("stop"), (), tuple(strand.logprobs))
    assert len(strand.logprobs) == len(engine.texts)


def test_withheld_tokens_are_produced_but_not_delivered():
    strand = StrandProgress()
    strand.accept(EngineEvent(Piece("Hello"), (1, 2), 2))
    strand.accept(EngineEvent(None, (3,), 3))
    assert strand.completion_tokens == 3
    assert strand.delivered_tokens == 2
    assert strand.resume() == Resume("Hello", (1, 2), 2)


def test_nothing_delivered_means_nothing_to_go_on_from():
    strand = StrandProgress()
    strand.accept(EngineEvent(None, (1,), 1))
    assert not strand.delivered
    assert strand.resume() is None


def test_ids_that_do_not_add_up_give_way_to_text():
    """llama.cpp sends no event for a part of a character: two tokens, one id."""
    strand = StrandProgress()
    strand.accept(EngineEvent(Piece("ö"), (2,), 2))
    strand.accept(EngineEvent(Piece("!"), (3,), 3))
    assert strand.resume().parts == ("ö", 3)


def test_an_engine_that_speaks_after_its_last_word_is_caught():
    """I5: nothing after the end."""
    strand = StrandProgress()
    strand.accept(EngineEvent(Piece("Hi"), (1,), 1, end=StrandEnd("stop")))
    with pytest.raises(AssertionError, match="after its last word"):
        strand.accept(EngineEvent(Piece("!"), (2,), 2))


def test_a_strand_without_an_end_is_no_answer():
    with pytest.raises(AssertionError, match="without an end"):
        StrandProgress().whole()


def test_tool_calls_are_gathered_from_their_parts():
    strand = StrandProgress()
    parts = [
        ToolCallDelta(0, "call_1", "weather", '{"city"'),
        ToolCallDelta(0, arguments=':"Bern"}'),
        ToolCallDelta(1, "call_2", "time", "{}"),
    ]
    for count, part in enumerate(parts, 1):
        strand.accept(EngineEvent(Piece(tool_calls=(part,)), completion_tokens=count))
    assert strand.delivered
    strand.accept(EngineEvent(None, completion_tokens=4, end=StrandEnd("tool_calls")))
    assert strand.whole().tool_calls == (
        ToolCall("call_1", "weather", '{"city":"Bern"}'),
        ToolCall("call_2", "time", "{}"),
    )


def test_a_call_broken_off_goes_on_from_its_tokens():
    """I7: what was delivered of a call is kept token by token, and counted."""
    strand = StrandProgress()
    strand.accept(EngineEvent(Piece(tool_calls=(ToolCallDelta(0, "c", "f", '{"a'),)), (1, 2, 3), 3))
    strand.accept(EngineEvent(Piece(tool_calls=(ToolCallDelta(0, arguments='":'),)), (4,), 4))
    strand.accept(EngineEvent(None, (5,), 5))
    assert strand.resume() == Resume("", (1, 2, 3, 4), 4, (ToolCall("c", "f", '{"a":'),))
    strand.accept(
        EngineEvent(Piece(tool_calls=(ToolCallDelta(0, arguments="1}"),)), (6,), 1, end=StrandEnd("tool_calls"))
    )
    assert strand.completion_tokens == 5
    assert strand.whole().tool_calls == (ToolCall("c", "f", '{"a":1}'),)


def test_a_call_without_all_its_ids_goes_on_from_what_it_says():
    strand = StrandProgress()
    strand.accept(EngineEvent(Piece(tool_calls=(ToolCallDelta(0, "c", "f", "{"),)), (1, 2), 3))
    strand.accept(EngineEvent(Piece(tool_calls=(ToolCallDelta(0, arguments="}"),)), (4,), 4))
    assert strand.resume() == Resume("", (), 4, (ToolCall("c", "f", "{}"),))
    strand.restart()
    strand.accept(EngineEvent(Piece("Hi"), (1,), 1))
    assert strand.resume() == Resume("Hi", (1,), 1)
