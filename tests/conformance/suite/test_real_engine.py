from __future__ import annotations

import json
import math
from typing import Literal

import anthropic
import openai
import pytest
from common import KEY, MODEL, URL, VECTORS, call, each, entered, gathered, journeys, trace, traced
from google import genai
from google.genai import types
from pydantic import BaseModel

QUESTION = "What is the capital of France?"
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome"]},
        "days": {"type": "integer", "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    large: bool


def of_openai(api):
    make = api.either(openai.OpenAI, openai.AsyncOpenAI)
    return api.shared(make, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=60)


def of_anthropic(api):
    make = api.either(anthropic.Anthropic, anthropic.AsyncAnthropic)
    return api.shared(make, base_url=URL, api_key=KEY, max_retries=0, timeout=60)


def of_gemini(api):
    options = types.HttpOptions(base_url=URL, timeout=60_000)
    return api.shared(api.either(genai.Client, asynchronous_gemini), api_key=KEY, http_options=options)


def asynchronous_gemini(**options):
    return genai.Client(**options).aio


def said(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


async def test_same_answer_and_usage(api):
    """the same prompt in three dialects: one answer, one usage"""
    chat = await call(
        of_openai(api).chat.completions.create,
        model=MODEL, messages=said(QUESTION), temperature=0, max_tokens=12,
    )  # fmt: skip
    message = await call(
        of_anthropic(api).messages.create,
        model=MODEL, messages=said(QUESTION), max_tokens=12, extra_body={"temperature": 0},
    )  # fmt: skip
    content = await call(
        of_gemini(api).models.generate_content,
        model=MODEL, contents=QUESTION, config={"temperature": 0, "max_output_tokens": 12},
    )  # fmt: skip
    response = await call(
        of_openai(api).responses.create, model=MODEL, input=QUESTION, temperature=0, max_output_tokens=12
    )
    text = chat.choices[0].message.content
    assert "Paris" in text
    assert message.content[0].text == content.text == response.output_text == text
    used = message.usage
    assert (
        (chat.usage.prompt_tokens, chat.usage.completion_tokens)
        == (used.input_tokens + used.cache_read_input_tokens, used.output_tokens)
        == (content.usage_metadata.prompt_token_count, content.usage_metadata.candidates_token_count)
        == (response.usage.input_tokens, response.usage.output_tokens)
    )


async def test_counts(api):
    """the same prompt counted in three dialects: what is then used"""
    counted = await call(of_anthropic(api).messages.count_tokens, model=MODEL, messages=said(QUESTION))
    gemini = await call(of_gemini(api).models.count_tokens, model=MODEL, contents=QUESTION)
    response = await call(of_openai(api).responses.input_tokens.count, model=MODEL, input=QUESTION)
    done = await call(of_openai(api).chat.completions.create, model=MODEL, messages=said(QUESTION), max_tokens=1)
    assert counted.input_tokens == gemini.total_tokens == response.input_tokens == done.usage.prompt_tokens


async def test_streams(api):
    """streams of three dialects; the journey tells the same usage"""
    mark = trace()
    options = {"temperature": 0, "max_tokens": 12, "stream_options": {"include_usage": True}}
    stream = await call(
        of_openai(api).chat.completions.create,
        model=MODEL, messages=said(QUESTION), stream=True, extra_headers=traced(mark), **options,
    )  # fmt: skip
    chunks = await gathered(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    told = journeys(mark)[0]["usage"]
    usage = chunks[-1].usage
    assert (told["prompt_tokens"], told["completion_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    asked = of_anthropic(api).messages.stream
    options = {"max_tokens": 12, "extra_body": {"temperature": 0}}
    async with entered(asked(model=MODEL, messages=said(QUESTION), **options)) as messages:
        assert "".join([part async for part in each(messages.text_stream)]) == text
    stream = await call(
        of_gemini(api).models.generate_content_stream,
        model=MODEL, contents=QUESTION, config={"temperature": 0, "max_output_tokens": 12},
    )  # fmt: skip
    assert "".join([c.text or "" async for c in each(stream)]) == text


async def test_tools(api):
    """a forced tool call, streamed: arguments that follow the schema"""
    function = {"name": "get_weather", "description": "The weather in a city.", "parameters": PARAMETERS}
    asked = of_openai(api).chat.completions.stream
    manager = asked(
        model=MODEL, messages=said("What is the weather in Rome in 3 days?"), tool_choice="required",
        tools=[{"type": "function", "function": {**function, "strict": True}}],
    )  # fmt: skip
    async with entered(manager) as stream:
        made = (await call(stream.get_final_completion)).choices[0].message.tool_calls[0].function
    follows(made.parsed_arguments)
    tool = {"name": "get_weather", "description": function["description"], "input_schema": PARAMETERS}
    message = await call(
        of_anthropic(api).messages.create,
        model=MODEL, messages=said("Weather in Rome?"), max_tokens=200, tools=[tool], tool_choice={"type": "any"},
    )  # fmt: skip
    assert message.stop_reason == "tool_use"
    follows(message.content[-1].input)
    declared = types.FunctionDeclaration(name="get_weather", parameters_json_schema=PARAMETERS)
    calling = types.FunctionCallingConfig(mode="ANY")
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])],
        tool_config=types.ToolConfig(function_calling_config=calling),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    content = await call(of_gemini(api).models.generate_content, model=MODEL, contents="Rome?", config=config)
    follows(content.function_calls[0].args)


def follows(arguments: dict) -> None:
    assert set(arguments) == {"city", "days"}
    assert arguments["city"] in ("Paris", "Rome")
    assert arguments["days"] <= 9


async def test_json_schema(api):
    """JSON that follows a schema, in three dialects"""
    question = "Describe Paris as JSON."
    chat = await call(
        of_openai(api).chat.completions.parse, model=MODEL, messages=said(question), response_format=City
    )
    message = await call(
        of_anthropic(api).messages.parse,
        model=MODEL, messages=said(question), max_tokens=300, output_format=City,
    )  # fmt: skip
    config = {"response_mime_type": "application/json", "response_schema": City, "max_output_tokens": 300}
    content = await call(of_gemini(api).models.generate_content, model=MODEL, contents=question, config=config)
    for parsed in (chat.choices[0].message.parsed, message.parsed_output, content.parsed):
        assert isinstance(parsed, City)
    assert json.loads(content.text).keys() == {"name", "large"}


async def test_stop_and_logprobs(api):
    """stop strings and probabilities"""
    done = await call(
        of_openai(api).chat.completions.create, model=MODEL, messages=said("Count from 1 to 9: 1, 2,"),
        temperature=0, max_tokens=40, stop=[","], logprobs=True, top_logprobs=3,
    )  # fmt: skip
    assert "," not in done.choices[0].message.content
    entries = done.choices[0].logprobs.content
    assert entries
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 3 for entry in entries)
    message = await call(
        of_anthropic(api).messages.create,
        model=MODEL, messages=said("Say: one, two, three"), max_tokens=40, stop_sequences=[" ", "."],
    )  # fmt: skip
    assert message.stop_reason in ("stop_sequence", "end_turn")


async def test_embeddings(api):
    """embeddings of a real model, equal in two dialects"""
    texts = ["A cat sat on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
    done = await call(of_openai(api).embeddings.create, model=VECTORS, input=texts)
    gemini = await call(of_gemini(api).models.embed_content, model=VECTORS, contents=texts)
    for row, other in zip(done.data, gemini.embeddings, strict=True):
        assert row.embedding == pytest.approx(other.values, abs=1e-4)
    first = [row.embedding for row in done.data]
    assert len(first[0]) > 100
    assert all(math.isfinite(value) for vector in first for value in vector)
    assert first[0] != first[2]
    assert done.usage.prompt_tokens > 10
