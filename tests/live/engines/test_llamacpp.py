"""llama.cpp's wire format, from bytes as the real server sent them, cut anywhere."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.domain.answer import Resume
from underlay.domain.errors import BadRequest, EngineFailed, NotSupported, Overloaded, PromptTooLong
from underlay.domain.prompt import Format, Message, Prompt, Sampling, Tool, ToolCall, ToolChoice
from underlay.live.engines import transcript
from underlay.live.engines.llamacpp import LlamaCpp

ADAPTER = LlamaCpp("m")
WEATHER = Tool(
    "get_weather",
    "Weather of a city",
    {"type": "object", "properties": {"city": {"$ref": "#/$defs/C"}}, "$defs": {"C": {"type": "string"}}},
)
CLOCK = Tool("clock", "", {"type": "object"})


def chat(*turns, **fields):
    messages = tuple(turn if isinstance(turn, Message) else Message("user", turn) for turn in turns or ("Hi",))
    return Prompt("chat", "m", messages=messages, **fields)


def body(prompt, strand=0, resume=None):
    return json.loads(ADAPTER.generate(prompt, strand, resume).body)


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


# Asking.


def test_the_opening_of_every_transcript_is_the_same():
    one, other = body(chat("One"))["prompt"], body(chat("Two"))["prompt"]
    assert one.startswith(transcript.PREAMBLE)
    assert other.startswith(transcript.PREAMBLE)
    assert one.endswith("Question: One\nAnswer:")


def test_a_transcript_has_every_turn():
    call = ToolCall("1", "get_weather", '{"city":"Rome"}')
    text = body(
        chat(
            Message("system", "Be kind."),
            Message("user", "Weather?"),
            Message("assistant", tool_calls=(call,)),
            Message("tool", "sunny", tool_call_id="1"),
            Message("assistant", "Sunny."),
            Message("user", "Thanks"),
        )
    )["prompt"].removeprefix(transcript.PREAMBLE)
    assert text == (
        "Be kind.\n\nQuestion: Weather?\n"
        'Answer: {"name":"get_weather","arguments":{"city":"Rome"}}\n\n'
        "Result: sunny\n\nAnswer: Sunny.\n\nQuestion: Thanks\nAnswer:"
    )


def test_a_last_message_of_the_assistant_is_gone_on_with():
    assert body(chat("Hi", Message("assistant", "Well,")))["prompt"].endswith("\nAnswer: Well,")


@pytest.mark.parametrize(
    ("parts", "prompt"),
    [
        ((7, 8, "x", 9), ["P", 7, 8, "x", 9]),
        (("Yes", 8), ["P", " Yes", 8]),
        (("Yes", " no"), "P Yes no"),
    ],
)
def test_a_strand_goes_on_from_ids_text_or_both(parts, prompt):
    whole = chat(sampling=Sampling(max_tokens=10))
    sent = body(whole, 0, Resume("…", parts, 3))
    start = body(whole)["prompt"]
    expected = [start, *prompt[1:]] if isinstance(prompt, list) else start + prompt[1:]
    assert sent["prompt"] == expected
    assert sent["n_predict"] == 7


def test_a_completion_of_ids_goes_on_from_ids():
    prompt = Prompt("completion", "m", texts=((1, 2),))
    assert body(prompt, 0, Resume("x", (3,), 1))["prompt"] == [1, 2, 3]


def test_strands_are_all_texts_n_times_with_seeds_of_their_own():
    prompt = Prompt("completion", "m", texts=("a", "b"), n=2, sampling=Sampling(seed=5))
    sent = [body(prompt, strand) for strand in range(4)]
    assert [(s["prompt"], s["seed"]) for s in sent] == [("a", 5), ("a", 6), ("b", 5), ("b", 6)]


def test_sampling_is_passed_on_in_the_engines_words():
    wanted = Sampling(
        max_tokens=9, temperature=0.5, top_p=0.8, top_k=3, min_p=0.1, presence_penalty=1.0, frequency_penalty=0.5,
        logit_bias={"42": -100.0}, stop=("X",), logprobs=2,
    )  # fmt: skip
    sent = body(chat(sampling=wanted))
    expected = {
        "n_predict": 9, "temperature": 0.5, "top_p": 0.8, "top_k": 3, "min_p": 0.1, "presence_penalty": 1.0,
        "frequency_penalty": 0.5, "logit_bias": [[42, -100.0]], "n_probs": 2,
        "stop": ["X", *transcript.STOPS],
    }  # fmt: skip
    assert {name: sent[name] for name in expected} == expected


def test_without_a_limit_the_engine_goes_on_to_the_end_of_its_context():
    assert body(chat())["n_predict"] == -1


def test_bias_of_a_word_instead_of_an_id_is_refused():
    with pytest.raises(BadRequest) as refused:
        body(chat(sampling=Sampling(logit_bias={"hello": 1.0})))
    assert refused.value.param == "logit_bias"


def test_logprobs_come_with_their_alternatives():
    chosen = {"id": 1, "token": " a", "logprob": -0.5, "top_logprobs": [{"token": " a", "logprob": -0.5}] * 3}
    sent = event(" a", [1], 1, completion_probabilities=[chosen]) + last()
    piece = read(chat(sampling=Sampling(logprobs=2)), sent)[0].piece
    assert [(p.token, p.logprob, len(p.top)) for p in piece.logprobs] == [(" a", -0.5, 2)]
    assert read(chat(), sent)[0].piece.logprobs == ()


# Constraints.


def test_json_is_asked_for_by_schema():
    assert body(chat(format=Format("json_object")))["json_schema"]["type"] == "object"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    sent = body(chat(format=Format("json_schema", schema)))["json_schema"]
    assert sent["properties"] == schema["properties"]
    assert not ADAPTER.resumable(chat(format=Format("json_object")))
    assert ADAPTER.resumable(chat())


def test_an_answer_that_is_no_json_is_not_passed_off_as_json():
    prompt = chat(format=Format("json_schema", {"type": "object"}))
    with pytest.raises(BadRequest):
        read(prompt, event(" A JSON", [1], 1), last())
    with pytest.raises(EngineFailed):
        read(prompt, event('{"a"', [1], 1), last())
    assert text_of(read(prompt, event('{"a"', [1], 1), last("limit"))) == '{"a"'


def test_one_tool_must_be_called():
    sent = body(chat(tools=(WEATHER, CLOCK), tool_choice=ToolChoice("required")))
    names = [call["properties"]["name"]["const"] for call in sent["json_schema"]["anyOf"]]
    assert names == ["get_weather", "clock"]
    city = sent["json_schema"]["anyOf"][0]["properties"]["arguments"]["properties"]["city"]
    assert city == {"$ref": "#/anyOf/0/properties/arguments/$defs/C"}
    assert "get_weather: Weather of a city" in sent["prompt"]


def test_a_named_tool_must_exist():
    with pytest.raises(BadRequest) as refused:
        body(chat(tools=(CLOCK,), tool_choice=ToolChoice("named", "other")))
    assert refused.value.param == "tool_choice"


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
    assert body(prompt)["grammar"].startswith("%llguidance")
    events = read(prompt, event(" Sunny", [1], 1), event(' {"name"', [2], 2), last())
    assert text_of(events) == 'Sunny {"name"'
    assert events[-1].end.finish == "stop"


def test_with_none_tools_are_not_mentioned():
    sent = body(chat(tools=(WEATHER,), tool_choice=ToolChoice("none")))
    assert "get_weather" not in sent["prompt"]
    assert not {"grammar", "json_schema"} & sent.keys()


def test_a_call_that_was_not_finished_is_a_failure():
    prompt = chat(tools=(WEATHER,), tool_choice=ToolChoice("required"))
    with pytest.raises(EngineFailed):
        read(prompt, event('{"name":"get_weather","arguments":{', [1], 1), last())
    assert read(prompt, event('{"name":"get_', [1], 1), last("limit"))[-1].end.finish == "length"


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {"type": "banana"},
        {"type": ["string", 5]},
        {"properties": 5},
        {"properties": {"a": 5}},
        {"$ref": "#/$defs/none"},
        {"$ref": "http://elsewhere/schema"},
        {"type": "string", "pattern": "("},
        {"not": {"type": "string"}},
        {"anyOf": []},
        {"items": {"uniqueItems": True}},
        {"required": "a"},
        {"description": "x" * 70_000},
        json.loads('{"items":' * 40 + "{}" + "}" * 40),
    ],
)
def test_a_schema_that_no_engine_can_hold_to_is_refused(schema):
    with pytest.raises(BadRequest) as refused:
        body(chat(format=Format("json_schema", schema)))
    assert refused.value.param == "response_format"
    if schema is not None:
        with pytest.raises(BadRequest) as refused:
            body(chat(tools=(Tool("f", "", schema),)))
        assert refused.value.param == "tools[0]"


def test_properties_may_be_called_like_keywords():
    schema = {"type": "object", "properties": {"not": {"type": "string"}, "$ref": {"type": "string"}}}
    assert body(chat(format=Format("json_schema", schema)))


# Errors.


@pytest.mark.parametrize(
    ("status", "told", "kind", "param"),
    [
        (
            400,
            {"message": "request (5002 tokens) exceeds", "type": "exceed_context_size_error"},
            PromptTooLong,
            None,
        ),
        (400, {"message": "Field 'temperature': wrong"}, BadRequest, "temperature"),
        (400, {"message": "failed to parse grammar"}, BadRequest, "response_format"),
        (501, {"message": "no embeddings"}, NotSupported, None),
        (503, {"message": "Loading model"}, Overloaded, None),
        (500, {"message": "boom"}, EngineFailed, None),
    ],
)
def test_errors_say_whose_fault_it_is(status, told, kind, param):
    error = ADAPTER.error(status, json.dumps({"error": told}).encode())
    assert type(error) is kind
    assert error.param == param


@pytest.mark.parametrize("told", [b"", b"[]", b"\xff", b"<html>", b'{"error":"text"}', b'{"error":7}'])
def test_any_body_of_an_error_is_survived(told):
    assert type(ADAPTER.error(502, told)) is EngineFailed


def test_counting_is_tokenizing_what_would_be_sent():
    request = ADAPTER.count(chat("Hi"))
    assert request.path == "/tokenize"
    assert json.loads(request.body)["content"].endswith("Question: Hi\nAnswer:")
    assert ADAPTER.read_count(b'{"tokens":[1,2,3]}') == 3
    with pytest.raises(EngineFailed):
        ADAPTER.read_count(b"{}")
