"""What servers of the OpenAI API write, cut anywhere."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.domain.answer import Resume, ToolCallDelta
from underlay.domain.errors import EngineFailed
from underlay.domain.prompt import Message, Prompt
from underlay.live.engines.openai import OpenAICompatible

ADAPTER = OpenAICompatible("upstream/name")
CHAT = Prompt("chat", "m", messages=(Message("user", "Hi"),))


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **more}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,'
    b'"prompt_tokens_details":{"cached_tokens":3}}}\n\n'
)
DONE = b"data: [DONE]\n\n"
ANSWER = chunk({"role": "assistant", "content": ""}) + chunk({"content": "né"}) + chunk({"content": " 😀"})
ANSWER += chunk(finish="stop", stop_reason="END") + USAGE + DONE


def read(*chunks, resume=None):
    reader = ADAPTER.reader(CHAT, resume)
    events = [event for data in chunks for event in reader.feed(data)]
    reader.finish()
    return events


def text_of(events):
    return "".join(event.piece.text for event in events if event.piece)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_how_the_bytes_were_cut_does_not_matter(cuts):
    places = sorted({0, *cuts, len(ANSWER)})
    events = read(*(ANSWER[a:b] for a, b in itertools.pairwise(places)))
    assert events == read(ANSWER)
    assert text_of(events) == "né 😀"


def test_the_end_comes_with_the_usage():
    *_, end = read(ANSWER)
    assert (end.end.finish, end.end.stop_string) == ("stop", "END")
    assert (end.prompt_tokens, end.cached_tokens, end.completion_tokens) == (9, 3, 4)


def test_a_server_without_usage_is_counted_by_its_events():
    end = read(chunk({"content": "a"}) + chunk({"content": "b"}) + chunk(finish="length") + DONE)[-1]
    assert (end.end.finish, end.completion_tokens, end.prompt_tokens) == ("length", 2, None)


@pytest.mark.parametrize(
    "rest",
    [b"", DONE, b"data: nonsense\n\n", b'data: {"error":{"message":"x","code":500}}\n\n', chunk(finish="stop")],
)
def test_a_stream_without_its_last_word_is_a_failure(rest):
    with pytest.raises(EngineFailed):
        read(chunk({"content": "a"}), rest)


def test_calls_are_told_once_by_name_and_then_appended():
    def call(index, arguments, **more):
        return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments, **more}, "id": "c1"}]})

    sent = call(0, "", name="f") + call(0, '{"a"', name="f") + call(0, ":1}") + call(1, "{}", name="g")
    events = read(sent + chunk(finish="tool_calls") + USAGE)
    deltas = [d for e in events if e.piece for d in e.piece.tool_calls]
    assert deltas == [
        ToolCallDelta(0, "c1", "f", ""),
        ToolCallDelta(0, arguments='{"a"'),
        ToolCallDelta(0, arguments=":1}"),
        ToolCallDelta(1, "c1", "g", "{}"),
    ]
    assert events[-1].end.finish == "tool_calls"


def test_both_shapes_of_logprobs_are_read():
    best = [{"token": "b", "logprob": -2.0}]
    content = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": best}]}
    lists = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -2.0}]}
    for logprobs in (content, lists):
        (told,) = read(chunk({"content": "a"}, logprobs=logprobs), chunk(finish="stop"), USAGE)[0].piece.logprobs
        assert (told.token, told.logprob, told.top[0].token) == ("a", -0.5, "b")


def test_resumed_tokens_are_no_prompt_tokens():
    assert read(ANSWER, resume=Resume("x", (), 2))[-1].prompt_tokens == 7
