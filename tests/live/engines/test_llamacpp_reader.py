"""llama.cpp's wire format, from bytes as the real server sent them, cut anywhere."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.domain.answer import Resume
from underlay.domain.errors import BadRequest, EngineFailed
from underlay.domain.prompt import Format, Message, Prompt, Sampling, Tool, ToolCall, ToolChoice
from underlay.live.engines.llamacpp import LlamaCpp

ADAPTER = LlamaCpp("m")
WEATHER = Tool(
    "get_weather",
    "Weather of a city",
    {"type": "object", "properties": {"city": {"$ref": "#/$defs/C"}}, "$defs": {"C": {"type": "string"}}},
)


def chat(*turns, **fields):
    messages = tuple(turn if isinstance(turn, Message) else Message("user", turn) for turn in turns or ("Hi",))
    return Prompt("chat", "m", messages=messages, **fields)


def event(content="", tokens=(), predicted=0, **more):
    told = {"index": 0, "content": content, "tokens": list(tokens), "stop": False, "id_slot": -1}
    told |= {"tokens_predicted": predicted, "tokens_evaluated": 13, **more}
    return b"data: " + json.dumps(told, ensure_ascii=False).encode() + b"\n\n"


def last(kind="eos", predicted=3, word="", **more):
    timings = {"cache_n": 5, "prompt_n": 8, "prompt_ms": 12.5, "predicted_n": predicted, "predicted_ms": 40.0}
    return event("", (), predicted, stop=True, stop_type=kind, stopping_word=word, timings=timings, **more)


ANSWER = (
    event("", [0], 0, prompt_progress={"total": 13, "cache": 5, "processed": 8, "time_ms": 9})
    + event(" Pa", [11], 1)
    + b": a ping\n\n"
    + event("rís", [12], 2)
    + event("", [13], 3)
    + event(" 😀\n", [15], 5)
    + last(predicted=6)
)


def read(prompt, *chunks, resume=None):
    reader = ADAPTER.reader(prompt, resume)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    reader.finish()
    return events


def text_of(events):
    return "".join(event.piece.text for event in events if event.piece)


def arguments_of(events):
    return "".join(d.arguments for event in events if event.piece for d in event.piece.tool_calls)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_how_the_bytes_were_cut_does_not_matter(cuts):
    places = sorted({0, *cuts, len(ANSWER)})
    chunks = [ANSWER[a:b] for a, b in itertools.pairwise(places)]
    events = read(chat(), *chunks)
    assert events == read(chat(), ANSWER)
    assert text_of(events) == "París 😀\n"


def test_ids_wait_for_their_text_and_are_left_out_where_some_are_missing():
    events = read(chat(), ANSWER)
    # Token 13 was withheld, 14 never came, 15 brought the text of all three.
    assert [event.tokens for event in events if event.piece] == [(11,), (12,), ()]
    assert [event.completion_tokens for event in events] == [1, 2, 5, 6]


def test_the_end_tells_counts_and_timings():
    end = read(chat(), ANSWER)[-1]
    assert (end.prompt_tokens, end.cached_tokens, end.end.finish) == (13, 5, "stop")
    assert (end.timings.prefill_ms, end.timings.decode_ms) == (12.5, 40.0)


def test_the_prefix_cache_is_told_with_the_first_piece():
    assert read(chat(), ANSWER)[0].cached_tokens == 5


def test_only_the_first_piece_of_an_answer_loses_its_space():
    assert text_of(read(chat(), event(" of", [7], 1), last(), resume=Resume("Head", (6,), 1))) == " of"
    assert text_of(read(chat("Hi", Message("assistant", "Head")), event(" of", [7], 1), last())) == " of"
    assert text_of(read(Prompt("completion", "m", texts=("x",)), event(" of", [7], 1), last())) == " of"


def test_a_space_of_its_own_is_kept_as_an_id():
    first = read(chat(), event(" ", [7], 1), event("Yes", [8], 2), last())[0]
    assert (first.piece.text, first.tokens) == ("Yes", (7, 8))


def test_prompt_tokens_do_not_include_what_was_resumed():
    events = read(chat(), event(" of", [7], 1), last(), resume=Resume("Head", (6,), 4))
    assert events[-1].prompt_tokens == 13 - 4


@pytest.mark.parametrize(
    ("kind", "word", "finish", "told"),
    [
        ("eos", "", "stop", None),
        ("limit", "", "length", None),
        ("word", "END", "stop", "END"),
        ("word", "\nQuestion:", "stop", None),
    ],
)
def test_only_the_callers_stop_strings_are_told(kind, word, finish, told):
    end = read(chat(sampling=Sampling(stop=("END",))), last(kind, word=word))[-1].end
    assert (end.finish, end.stop_string) == (finish, told)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"data: {nonsense\n\n",
        b'data: {"error":{"code":500,"message":"x"}}\n\n',
        b'error: {"error":{"code":500}}\n',
    ],
)
def test_a_stream_without_its_last_event_is_a_failure(rest):
    with pytest.raises(EngineFailed):
        read(chat(), event("a", [1], 1), rest)


def test_an_event_without_end_does_not_fill_our_memory():
    reader = ADAPTER.reader(chat())
    with pytest.raises(EngineFailed):
        for _ in range(6):
            reader.feed(b"x" * 2**20)


def test_logprobs_come_with_their_alternatives():
    chosen = {"id": 1, "token": " a", "logprob": -0.5, "top_logprobs": [{"token": " a", "logprob": -0.5}] * 3}
    sent = event(" a", [1], 1, completion_probabilities=[chosen]) + last()
    piece = read(chat(sampling=Sampling(logprobs=2)), sent)[0].piece
    assert [(p.token, p.logprob, len(p.top)) for p in piece.logprobs] == [(" a", -0.5, 2)]
    assert read(chat(), sent)[0].piece.logprobs == ()


# Constraints.


def test_an_answer_that_is_no_json_is_not_passed_off_as_json():
    prompt = chat(format=Format("json_schema", {"type": "object"}))
    with pytest.raises(BadRequest):
        read(prompt, event(" A JSON", [1], 1), last())
    with pytest.raises(EngineFailed):
        read(prompt, event('{"a"', [1], 1), last())
    assert text_of(read(prompt, event('{"a"', [1], 1), last("limit"))) == '{"a"'


@given(st.lists(st.integers(1, 60), max_size=8))
def test_a_call_is_told_as_it_is_written(cuts):
    written = '{"name":"get_weather","arguments":{"city":"a \\"}{\\\\","n":[1,{}]}}'
    places = sorted({0, *(c for c in cuts if c < len(written)), len(written)})
    pieces = [event(written[a:b], [1], 1) for a, b in itertools.pairwise(places)]
    events = read(chat(tools=(WEATHER,), tool_choice=ToolChoice("required")), *pieces, last())
    deltas = [d for e in events if e.piece for d in e.piece.tool_calls]
    assert (deltas[0].name, deltas[0].id[:5]) == ("get_weather", "call_")
    assert all(d.name is None and d.id is None for d in deltas[1:])
    assert json.loads(arguments_of(events)) == {"city": 'a "}{\\', "n": [1, {}]}
    assert text_of(events) == ""
    assert events[-1].end.finish == "tool_calls"


def test_with_auto_the_model_may_just_answer():
    prompt = chat(tools=(WEATHER,))
    events = read(prompt, event(" Sunny", [1], 1), event(' {"name"', [2], 2), last())
    assert text_of(events) == 'Sunny {"name"'
    assert events[-1].end.finish == "stop"


def test_a_call_that_was_not_finished_is_a_failure():
    prompt = chat(tools=(WEATHER,), tool_choice=ToolChoice("required"))
    with pytest.raises(EngineFailed):
        read(prompt, event('{"name":"get_weather","arguments":{', [1], 1), last())
    assert read(prompt, event('{"name":"get_', [1], 1), last("limit"))[-1].end.finish == "length"


# Going on in the middle of one.


def test_json_that_goes_on_is_judged_as_a_whole():
    prompt = chat(format=Format("json_object"))
    assert text_of(read(prompt, event("1}", [7], 1), last(), resume=Resume('{"a":', (6,), 4))) == "1}"
    with pytest.raises(EngineFailed):
        read(prompt, event("1", [7], 1), last(), resume=Resume('{"a":', (6,), 4))


def test_a_call_that_goes_on_is_not_named_again():
    prompt = chat(tools=(WEATHER,), tool_choice=ToolChoice("required"))
    begun = Resume("", (6,), 4, (ToolCall("c", "get_weather", '{"city":"{'),))
    events = read(prompt, event('Rome"', [7], 1), event("}}", [8], 2), last(), resume=begun)
    deltas = [d for event in events if event.piece for d in event.piece.tool_calls]
    assert [(d.id, d.name) for d in deltas] == [(None, None)] * 2
    assert arguments_of(events) == 'Rome"}'
    assert events[-1].end.finish == "tool_calls"


def test_a_call_that_was_all_there_only_ends():
    prompt = chat(tools=(WEATHER,))
    begun = Resume("", (6,), 4, (ToolCall("c", "get_weather", "{}"),))
    events = read(prompt, event("}", [7], 1), last(), resume=begun)
    assert [event.piece for event in events] == [None]
    assert events[-1].end.finish == "tool_calls"
