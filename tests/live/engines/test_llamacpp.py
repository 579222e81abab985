"""What llama.cpp is asked, held to and blamed for."""

import json

import pytest

from underlay.domain.answer import Resume
from underlay.domain.errors import BadRequest, EngineFailed, NotSupported, Overloaded, PromptTooLong
from underlay.domain.prompt import Format, Message, Prompt, Sampling, Tool, ToolCall, ToolChoice
from underlay.live.engines import transcript
from underlay.live.engines.llamacpp import LlamaCpp
from underlay.live.engines.slots import Seat

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


# Constraints.


def test_json_is_asked_for_by_schema():
    assert body(chat(format=Format("json_object")))["json_schema"]["type"] == "object"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    sent = body(chat(format=Format("json_schema", schema)))["json_schema"]
    assert sent["properties"] == schema["properties"]
    assert ADAPTER.resumable(chat(format=Format("json_object")))
    assert ADAPTER.resumable(chat())


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


def test_with_auto_the_grammar_lets_the_model_just_answer():
    assert body(chat(tools=(WEATHER,)))["grammar"].startswith("%llguidance")


def test_with_none_tools_are_not_mentioned():
    sent = body(chat(tools=(WEATHER,), tool_choice=ToolChoice("none")))
    assert "get_weather" not in sent["prompt"]
    assert not {"grammar", "json_schema"} & sent.keys()


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


# Going on in the middle of a grammar.

CITY = chat(format=Format("json_schema", {"type": "object", "properties": {"a": {"enum": ["one", "other"]}}}))
CALL = chat(tools=(WEATHER, CLOCK), tool_choice=ToolChoice("required"))


def test_json_goes_on_with_what_may_follow():
    sent = body(CITY, 0, Resume('{"a":"o', (7, 8), 2))
    assert "json_schema" not in sent
    assert sent["grammar"] == 'root ::= "ne\\"" "}" | "ther\\"" "}"\n'
    assert sent["prompt"] == [body(CITY)["prompt"], 7, 8]


def test_json_without_ids_goes_on_without_a_space_before_it():
    assert body(CITY, 0, Resume('{"a":', ('{"a":',), 2))["prompt"].endswith('Answer:{"a":')


def test_a_call_goes_on_from_what_was_delivered_of_it():
    begun = Resume("", (), 9, (ToolCall("c", "get_weather", '{"city":"Ro'),))
    sent = body(CALL, 0, begun)
    assert sent["prompt"].endswith('Answer:{"name":"get_weather","arguments":{"city":"Ro')
    assert sent["grammar"].startswith("root ::= ")
    assert body(CALL, 0, Resume("", (4, 5), 2, begun.tool_calls))["prompt"][1:] == [4, 5]


def test_with_auto_text_goes_on_freely_and_a_call_by_its_grammar():
    may = chat(tools=(WEATHER,))
    assert ADAPTER.resumable(may)
    assert "grammar" not in body(may, 0, Resume("It is", ("It is",), 2))
    call = Resume("", (), 2, (ToolCall("c", "get_weather", "{"),))
    assert body(may, 0, call)["grammar"].startswith("root ::= ")


@pytest.mark.parametrize(
    "prompt",
    [
        chat(format=Format("json_schema", {"type": "string", "pattern": "a+"})),
        chat(format=Format("json_schema", {"not": {}})),
        chat(tools=(Tool("t", "", {"properties": {"when": {"type": "string", "format": "date"}}}),)),
    ],
)
def test_what_cannot_be_replayed_is_said_before_anything_is_written(prompt):
    assert not ADAPTER.resumable(prompt)


@pytest.mark.parametrize(
    ("prompt", "begun"),
    [(CITY, '{"b"'), (chat(format=Format("json_schema", {"type": "string", "pattern": "a+"})), '"a')],
)
def test_an_answer_that_left_its_schema_does_not_go_on(prompt, begun):
    with pytest.raises(EngineFailed) as failure:
        body(prompt, 0, Resume(begun, (begun,), 1))
    assert failure.value.reason == "not_resumable"


# Slots.


@pytest.mark.parametrize("adapter", [ADAPTER, LlamaCpp("m", "model")])
def test_a_seat_says_which_slot_and_whether_what_it_holds_may_be_used(adapter):
    def sent(seat):
        fields = json.loads(adapter.generate(chat(), 0, None, seat).body)
        return {name: fields.get(name) for name in ("id_slot", "cache_prompt", "cache_salt")}

    assert sent(None) == {"id_slot": None, "cache_prompt": True, "cache_salt": None}
    assert sent(Seat("a", 2, reuse=True)) == {"id_slot": 2, "cache_prompt": True, "cache_salt": None}
    assert sent(Seat("a", 0, reuse=False)) == {"id_slot": 0, "cache_prompt": False, "cache_salt": None}
    assert sent(Seat("a")) == {"id_slot": None, "cache_prompt": False, "cache_salt": None}


def test_the_turns_of_one_conversation_have_the_same_opening():
    first = chat("Hi")
    later = chat("Hi", Message("assistant", "Hello!"), "And?")
    assert ADAPTER.opening(first) == ADAPTER.opening(later) != ADAPTER.opening(chat("Ho"))
    assert ADAPTER.opening(Prompt("completion", "m", texts=("a",))) != ADAPTER.opening(
        Prompt("completion", "m", texts=((1, 2),))
    )
