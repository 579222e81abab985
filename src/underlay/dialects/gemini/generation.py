"""From ``generationConfig`` to how tokens are drawn and what shape the answer has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from underlay.dialects import json_body
from underlay.dialects.gemini.fields import inner
from underlay.dialects.gemini.schemas import json_schema
from underlay.domain.errors import BadRequest
from underlay.domain.prompt import Format, Sampling

MAX_TOKENS_MAX = 2**31 - 1
CANDIDATES_MAX = 8
LOGPROBS_MAX = 20

HONOURED = frozenset({
    "candidateCount", "frequencyPenalty", "logprobs", "maxOutputTokens", "presencePenalty",
    "responseJsonSchema", "responseLogprobs", "responseMimeType", "responseModalities", "responseSchema",
    "seed", "stopSequences", "temperature", "topK", "topP",
})  # fmt: skip

#: Asks for an answer that is not text, or not only.
REFUSED = frozenset({
    "audioTimestamp", "audioTranscriptionConfig", "imageConfig", "responseFormat", "speechConfig",
    "translationConfig",
})  # fmt: skip


class Generation(NamedTuple):
    """What the configuration comes to."""

    sampling: Sampling
    format: Format
    candidates: int


def generation_of(fields: Mapping[str, Any], where: str, ignored: list[str]) -> Generation:
    """Read the configuration."""
    config = inner(fields, "generationConfig", where=where)
    here = json_body.path(where, "generationConfig")
    for name in config:
        if name in REFUSED and config[name] is not False:
            param = f"{here}.{name}"
            raise BadRequest(f"'{param}' cannot be honoured: models here write text only.", param=param)
        if name not in HONOURED:
            ignored.append(f"generationConfig.{name}")
    for index, modality in enumerate(json_body.string_list(config, "responseModalities", where=here)):
        if modality.upper() != "TEXT":
            raise json_body.wrong(here, f"responseModalities[{index}]", '"TEXT"', modality)
    count = json_body.optional_int(config, "candidateCount", minimum=1, maximum=CANDIDATES_MAX, where=here)
    return Generation(_sampling(config, here), _format(config, here), count or 1)


def _sampling(config: Mapping[str, Any], where: str) -> Sampling:
    def number(name: str, minimum: float, maximum: float) -> float | None:
        return json_body.optional_number(config, name, minimum=minimum, maximum=maximum, where=where)

    top_k = number("topK", 0.0, float(MAX_TOKENS_MAX))  # the vendor's SDK sends it with a decimal point
    return Sampling(
        max_tokens=json_body.optional_int(
            config, "maxOutputTokens", minimum=1, maximum=MAX_TOKENS_MAX, where=where
        ),
        temperature=number("temperature", 0.0, 2.0),
        top_p=number("topP", 0.0, 1.0),
        top_k=None if top_k is None else int(top_k),
        seed=json_body.optional_int(config, "seed", where=where),
        presence_penalty=number("presencePenalty", -2.0, 2.0),
        frequency_penalty=number("frequencyPenalty", -2.0, 2.0),
        stop=json_body.string_list(config, "stopSequences", where=where),
        logprobs=_logprobs(config, where),
    )


def _logprobs(config: Mapping[str, Any], where: str) -> int | None:
    wanted = json_body.optional_bool(config, "responseLogprobs", where=where)
    alternatives = json_body.optional_int(config, "logprobs", minimum=0, maximum=LOGPROBS_MAX, where=where)
    if alternatives is not None and not wanted:
        param = f"{where}.logprobs"
        raise BadRequest(f"'{param}' needs 'responseLogprobs' to be true.", param=param)
    return (alternatives or 0) if wanted else None


def _format(config: Mapping[str, Any], where: str) -> Format:
    mime = json_body.optional_choice(config, "responseMimeType", ("text/plain", "application/json"), where=where)
    exact = json_body.optional_object(config, "responseJsonSchema", where=where)
    if exact is not None:
        return Format("json_schema", exact)
    described = json_body.optional_object(config, "responseSchema", where=where)
    if described is not None:
        return Format("json_schema", json_schema(described))
    return Format("json_object" if mime == "application/json" else "text")
