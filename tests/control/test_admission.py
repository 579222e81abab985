"""Let in, or refused with a reason and a time that is true."""

import pytest
from tests.control.builders import EMBEDDER, GEMMA, arrived, settings

from underlay.control import admission
from underlay.domain.errors import BadRequest, PromptTooLong, UnknownModel

MODELS = {"gemma": GEMMA, "embedder": EMBEDDER}


def test_a_model_is_found_with_its_policy():
    assert admission.model_policy(MODELS, arrived()) is GEMMA


def test_an_unknown_model_is_told_which_there_are():
    with pytest.raises(UnknownModel, match="model 'gpt' is not served here; there is: gemma, embedder") as refused:
        admission.model_policy(MODELS, arrived(model="gpt"))
    assert refused.value.param == "model"


def test_a_model_is_asked_only_for_what_it_does():
    with pytest.raises(BadRequest, match="model 'embedder' does not serve chats"):
        admission.model_policy(MODELS, arrived(model="embedder"))
    assert admission.model_policy(MODELS, arrived(model="embedder", operation="embedding")) is EMBEDDER


@pytest.mark.parametrize(
    ("field", "fits", "error", "says"),
    [
        ("prompt_bytes", 48_000, PromptTooLong, "the prompt has 48001 bytes; the context of 'gemma' is 1000"),
        ("max_tokens", 1000, BadRequest, "1001 tokens were asked for"),
        ("strands", 8, BadRequest, "9 answers were asked for; at most 8"),
    ],
)
def test_sizes_are_refused_just_beyond_what_can_fit(field, fits, error, says):
    admission.check_size(arrived(**{field: fits}), GEMMA, settings())
    with pytest.raises(error, match=says):
        admission.check_size(arrived(**{field: fits + 1}), GEMMA, settings())
