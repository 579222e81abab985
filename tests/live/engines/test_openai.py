"""The OpenAI API as engines speak it."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.domain.answer import Resume, ToolCallDelta
from underlay.domain.errors import BadRequest, EngineFailed
from underlay.domain.prompt import Format, Message, Prompt, Sampling, Tool, ToolCall, ToolChoice
from underlay.live.engines import adapter_for
from underlay.live.engines.openai import OpenAICompatible, estimate_tokens
from underlay.live.settings import EngineSettings, ModelSettings

ADAPTER = OpenAICompatible("upstream/name", api_key="sk-1")


def chat(*turns, **fields):
    messages = tuple(turn if isinstance(turn, Message) else Message("user", turn) for turn in turns or ("Hi",))
    return Prompt("chat", "m", messages=messages, **fields)


def body(prompt, strand=0, resume=None):
    return json.loads(ADAPTER.generate(prompt, strand, resume).body)


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
    reader = ADAPTER.reader(chat(), resume)
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


def test_a_chat_goes_on_from_a_last_message_of_the_assistant():
    sent = body(chat("Hi", sampling=Sampling(max_tokens=10)), 0, Resume("Hello", (1, 2), 2))
    assert sent["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
    assert sent["max_tokens"] == 8
    prefilled = body(chat("Hi", Message("assistant", "Well")), 0, Resume(", hello", (), 2))
    assert [m["content"] for m in prefilled["messages"]] == ["Hi", "Well, hello"]


def test_resumed_tokens_are_no_prompt_tokens():
    assert read(ANSWER, resume=Resume("x", (), 2))[-1].prompt_tokens == 7


def test_a_completion_goes_on_from_text():
    prompt = Prompt("completion", "m", texts=("Once",), sampling=Sampling(logprobs=1))
    request = ADAPTER.generate(prompt, 0, Resume(" upon", (), 1))
    sent = json.loads(request.body)
    assert (request.path, sent["prompt"], sent["logprobs"]) == ("/v1/completions", "Once upon", 1)
    ids = Prompt("completion", "m", texts=((1, 2),))
    with pytest.raises(EngineFailed):
        body(ids, 0, Resume(" upon", (" upon",), 1))


def test_tools_and_formats_are_passed_on():
    tool = Tool("f", "does", {"type": "object"})
    call = ToolCall("c1", "f", "{}")
    sent = body(
        chat(
            Message("user", "x"),
            Message("assistant", tool_calls=(call,)),
            Message("tool", "y", tool_call_id="c1"),
            tools=(tool,),
            tool_choice=ToolChoice("named", "f"),
            parallel_tool_calls=False,
            format=Format("json_schema", {"type": "object"}, "answer"),
        )
    )
    assert sent["tools"][0]["function"] == {"name": "f", "description": "does", "parameters": {"type": "object"}}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert sent["parallel_tool_calls"] is False
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert sent["messages"][1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert sent["messages"][2]["tool_call_id"] == "c1"
    assert "continue_final_message" not in sent
    with pytest.raises(BadRequest):
        body(chat(tools=(tool,), tool_choice=ToolChoice("named", "g")))


def test_the_upstream_knows_us_by_its_own_key_and_name(monkeypatch):
    monkeypatch.setenv("UP_KEY", "sk-2")
    engine = EngineSettings(
        kind="openai", addresses=("http://h:1/pre/v1/",), upstream_model="their/name", api_key_env="UP_KEY"
    )
    request = adapter_for(ModelSettings(name="ours", engine=engine)).generate(chat(), 0, None)
    assert request.path == "/pre/v1/chat/completions"
    assert ("authorization", "Bearer sk-2") in request.headers
    assert json.loads(request.body)["model"] == "their/name"


def test_counting():
    assert ADAPTER.count(chat("Hi")).path == "/tokenize"
    assert ADAPTER.read_count(b'{"count":7,"max_model_len":9}') == 7
    assert ADAPTER.read_count(b'{"input_tokens":8}') == 8
    assert estimate_tokens(chat("x" * 40)) == 10


def test_embeddings_come_in_order():
    prompt = Prompt("embedding", "m", texts=("a", (1, 2)))
    assert json.loads(ADAPTER.embed(prompt).body)["input"] == ["a", [1, 2]]
    rows, usage = ADAPTER.read_embeddings(
        b'{"data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":[1.0]}],"usage":{"prompt_tokens":3}}'
    )
    assert (list(rows), usage.prompt_tokens) == ([[1.0], [2.0]], 3)
