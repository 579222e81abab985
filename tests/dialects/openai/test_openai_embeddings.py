import base64
import json
import struct

import pytest
from openai.types import CreateEmbeddingResponse
from tests.dialects.openai.openai_platform import OPENING, RECEIPT, Platform, parse

from underlay.dialects.openai import OPENAI
from underlay.dialects.wire import Route
from underlay.domain.errors import BadRequest

ROUTE = Route("openai", "embeddings")


def embed(**fields):
    return parse("embeddings", {"model": "small", "input": "x", **fields})


def test_texts_become_a_prompt():
    ask = embed(input=["a", "b"], user="u")
    assert (ask.prompt.operation, ask.prompt.texts) == ("embedding", ("a", "b"))
    assert ask.ignored == ("user",)
    assert ask.prompt.strands == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 8}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields, param):
    with pytest.raises(BadRequest) as refused:
        embed(**fields)
    assert refused.value.param == param


def test_vectors_are_floats_or_packed():
    plain = json.loads(OPENAI.embedded(ROUTE, embed(), OPENING, [(0.5, -1.0)], RECEIPT))
    CreateEmbeddingResponse.model_validate(plain, strict=True)
    assert plain["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]
    assert plain["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    packed = json.loads(OPENAI.embedded(ROUTE, embed(encoding_format="base64"), OPENING, [(0.5, -1.0)], RECEIPT))
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (0.5, -1.0)


def test_the_sdk_talks_to_it():
    platform = Platform()
    answer = platform.client().embeddings.create(model="small", input=["a", "b"])
    assert platform.ask.extras["encoding_format"] == "base64"
    assert [item.embedding for item in answer.data] == [[0.5, -1.0, 0.0], [0.5, -1.0, 1.0]]


def test_the_sdk_lists_models():
    client = Platform().client()
    (model,) = client.models.list().data
    assert (model.id, model.created, model.owned_by) == ("small", 1_690_000_000, "underlay")
    assert client.models.retrieve("small").model_extra["max_model_len"] == 8192
