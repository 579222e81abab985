"""The OpenAI API as engines are asked in it."""

import json

import pytest

from underlay.domain.answer import Resume
from underlay.domain.errors import BadRequest, EngineFailed
from underlay.domain.prompt import Format, Message, Prompt, Sampling, Tool, ToolCall, ToolChoice
from underlay.live.engines import adapter_for
from underlay.live.engines.openai import OpenAICompatible, estimate_tokens
from underlay.live.engines.slots import Seat
from underlay.live.settings import EngineSettings, ModelSettings

ADAPTER = OpenAICompatible("upstream/name", api_key="sk-1")


def chat(*turns, **fields):
    messages = tuple(turn if isinstance(turn, Message) else Message("user", turn) for turn in turns or ("Hi",))
    return Prompt("chat", "m", messages=messages, **fields)


def body(prompt, strand=0, resume=None):
    return json.loads(ADAPTER.generate(prompt, strand, resume).body)


def test_a_chat_goes_on_from_a_last_message_of_the_assistant():
    sent = body(chat("Hi", sampling=Sampling(max_tokens=10)), 0, Resume("Hello", (1, 2), 2))
    assert sent["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
    assert sent["max_tokens"] == 8
    prefilled = body(chat("Hi", Message("assistant", "Well")), 0, Resume(", hello", (), 2))
    assert [m["content"] for m in prefilled["messages"]] == ["Hi", "Well, hello"]


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


def test_tenants_are_kept_apart_in_the_prefix_cache():
    seat = Seat("0123abcd")
    text = Prompt("completion", "m", texts=("Hi",))
    assert json.loads(OpenAICompatible("m").generate(text, 0, None, seat).body)["cache_salt"] == "0123abcd"
    for adapter, place in ((OpenAICompatible("m"), None), (OpenAICompatible("m", cache_salt=False), seat)):
        sent = json.loads(adapter.generate(text, 0, None, place).body)
        assert not {"cache_salt", "id_slot", "cache_prompt"} & sent.keys()
