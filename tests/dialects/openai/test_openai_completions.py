import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from tests.dialects.openai.openai_platform import TEXT, TEXTS, Platform, complete, data_of, reply, written

from underlay.domain.answer import Piece, Strand, StrandEnd, TokenLogprob
from underlay.domain.errors import BadRequest

TOKENS = (TokenLogprob("ab", -1.0, (TokenLogprob("x", -0.5),)), TokenLogprob("c", -2.0))


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("hi", ("hi",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_a_prompt_is_text_or_token_ids_or_many(prompt, texts):
    ask = complete(prompt=prompt, n=2)
    assert ask.prompt.texts == texts
    assert ask.prompt.strands == 2 * len(texts)


def test_the_documented_length_is_the_default():
    assert complete().prompt.sampling.max_tokens == 16
    assert complete(max_tokens=99).prompt.sampling.max_tokens == 99


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": ["a", [1]]}, "prompt[1]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [[-1]]}, "prompt[0][0]"),
        ({"prompt": [1, 2**40]}, "prompt[1]"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"echo": True, "prompt": [1]}, "echo"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, param):
    with pytest.raises(BadRequest) as refused:
        complete(**fields)
    assert refused.value.param == param


def test_best_of_may_repeat_n():
    assert complete(best_of=2, n=2).prompt.n == 2
    assert complete(best_of=1).ignored == ()


def test_a_reply_echoes_each_strand_s_own_prompt():
    ask = complete(prompt=["a", "b"], n=2, echo=True)
    strands = [Strand(str(number), StrandEnd("stop")) for number in range(4)]
    body = reply("completions", ask, *strands)
    Completion.model_validate(body, strict=True)
    assert [choice["text"] for choice in body["choices"]] == ["a0", "a1", "b2", "b3"]
    assert body["x_cost"] == {"usd": "0.000012"}
    assert body["id"] == "cmpl-abc123"


def test_probabilities_come_in_parallel_lists():
    strand = Strand("abc", StrandEnd("length"), logprobs=TOKENS)
    body = reply("completions", complete(logprobs=1), strand)
    Completion.model_validate(body)
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": [{"x": -0.5, "ab": -1.0}, {"c": -2.0}],
        "text_offset": [0, 2],
    }
    assert reply("completions", complete(logprobs=0), strand)["choices"][0]["logprobs"]["top_logprobs"] is None


def test_offsets_go_on_through_a_stream():
    pieces = [Piece("ab", logprobs=TOKENS[:1]), Piece("c", logprobs=TOKENS[1:])]
    chunks = data_of(written("completions", complete(stream=True, logprobs=1), pieces))
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks[:2]]
    assert offsets == [[0], [2]]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.text()), st.booleans())
def test_the_chunks_together_are_the_prompt_and_the_text(texts, echo):
    ask = complete(prompt=["p", "q"], stream=True, echo=echo, stream_options={"include_usage": True})
    together = ["", ""]
    chunks = data_of(written("completions", ask, [Piece(text) for text in texts]))
    for chunk in chunks:
        for choice in chunk["choices"]:
            together[choice["index"]] += choice["text"]
    assert together == [("p" if echo else "") + "".join(texts), ("q" if echo else "") + "".join(texts)]
    assert chunks[-1]["usage"]["prompt_tokens"] == 10
    assert chunks[0]["usage"] is None


def test_every_chunk_is_what_the_sdk_expects():
    stream = written("completions", complete(stream=True), TEXTS, finish="tool_calls")
    assert stream.endswith(b"data: [DONE]\n\n")
    chunks = data_of(stream)
    assert chunks[-1]["choices"][0] == {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


def test_the_sdk_talks_to_it():
    client = Platform(*TEXTS).client()
    assert client.completions.create(model="small", prompt="x").choices[0].text == TEXT
    chunks = list(client.completions.create(model="small", prompt="x", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
