"""The OpenAI API as engines speak it: vLLM, llama.cpp with a chat template, any compatible server.

Such servers give no token ids in their streams, so a strand goes on elsewhere from its text: a chat by a last
message of the assistant that the server continues, a completion by prompt plus text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from underlay.domain.answer import Resume, Usage
from underlay.domain.errors import BadRequest, EngineFailed, UnderlayError
from underlay.domain.prompt import Message, Prompt
from underlay.live.engines.adapter import EngineRequest, Reader
from underlay.live.engines.openai_reader import OpenAIReader, UsageTold, malformed, read_error
from underlay.live.engines.schemas import guard
from underlay.live.engines.slots import Seat


class OpenAICompatible:
    """The adapter of a server that speaks the OpenAI API.

    ``model`` is the name the server knows it by; ``prefix`` is what comes before ``/v1`` in its address;
    ``count_path`` is where tokens are counted: vLLM's ``/tokenize``, or llama.cpp's route; ``cache_salt`` is
    whether the server takes vLLM's field of that name.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str = "",
        prefix: str = "",
        count_path: str = "/tokenize",
        cache_salt: bool = True,
    ) -> None:
        self._model = model
        self._cache_salt = cache_salt
        self._prefix = prefix
        self._count_path = count_path
        self._headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
        if api_key:
            self._headers += (("authorization", f"Bearer {api_key}"),)

    def _post(self, path: str, body: dict[str, Any]) -> EngineRequest:
        encoded = msgspec.json.encode({"model": self._model, **body})
        return EngineRequest("POST", self._prefix + path, encoded, self._headers)

    def resumable(self, prompt: Prompt) -> bool:
        """Whether the strand carries no grammar, which another engine would begin anew.

        It cannot be replayed here: such servers differ in the white space and the calls that they allow.
        """
        calls = bool(prompt.tools) and prompt.tool_choice.mode != "none"
        return not calls and prompt.format.kind == "text"

    def opening(self, prompt: Prompt) -> int:
        """Nothing: such a server finds what it knows by itself."""
        del prompt
        return 0

    def place(self, seat: Seat | None) -> dict[str, Any]:
        """The fields that keep tenants apart in the prefix cache: vLLM mixes the salt into its block hashes."""
        return {"cache_salt": seat.salt} if self._cache_salt and seat is not None and seat.salt else {}

    def generate(
        self, prompt: Prompt, strand: int, resume: Resume | None, seat: Seat | None = None
    ) -> EngineRequest:
        """Ask for one strand, streamed; with ``resume``, for what comes after the delivered text."""
        body: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, **self.place(seat)}
        body |= _sampling(prompt, strand, resume.completion_tokens if resume else 0)
        if prompt.operation == "completion":
            body["prompt"] = _completion_prompt(prompt, strand, resume)
            if prompt.sampling.logprobs is not None:
                body["logprobs"] = prompt.sampling.logprobs
            return self._post("/v1/completions", body)
        if prompt.sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": prompt.sampling.logprobs}
        return self._post("/v1/chat/completions", body | _chat(prompt, resume))

    def reader(self, prompt: Prompt, resume: Resume | None = None) -> Reader:
        """Make the reader of such a reply."""
        return OpenAIReader(prompt, resume)

    def warm(self, slot: int) -> None:
        """Nothing: the server knows its own template."""

    def read_warm(self, body: bytes) -> int:
        """Nothing was asked."""
        del body
        return 0

    def count(self, prompt: Prompt) -> EngineRequest:
        """Ask how many tokens a prompt is. A server without such a route answers 404: use ``estimate_tokens``."""
        if prompt.messages:
            body = _chat(prompt, None)
        else:
            body = {"prompt": "".join(t for t in prompt.texts if isinstance(t, str))}
        return self._post(self._count_path, body)

    def read_count(self, body: bytes) -> int:
        """Read vLLM's ``count``, llama.cpp's ``input_tokens`` or the length of ``tokens``."""
        try:
            answer = msgspec.json.decode(body, type=_Counted)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed() from error
        for number in (answer.count, answer.input_tokens):
            if number is not None:
                return number
        if answer.tokens is None:
            raise malformed()
        return len(answer.tokens)

    def embed(self, prompt: Prompt) -> EngineRequest:
        """Ask for the embeddings of ``prompt.texts``."""
        texts = [text if isinstance(text, str) else list(text) for text in prompt.texts]
        return self._post("/v1/embeddings", {"input": texts, "encoding_format": "float"})

    def read_embeddings(self, body: bytes) -> tuple[Sequence[Sequence[float]], Usage]:
        """Read the answer to ``embed``, in the order of the texts."""
        try:
            answer = msgspec.json.decode(body, type=_Embedded)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed() from error
        rows = sorted(answer.data, key=lambda row: row.index)
        return [row.embedding for row in rows], Usage(prompt_tokens=answer.usage.prompt_tokens)

    def error(self, status: int, body: bytes) -> UnderlayError:
        """Say what an answer other than 200 means."""
        return read_error(status, body)


def estimate_tokens(prompt: Prompt) -> int:
    """Guess how many tokens a prompt is where its server cannot count: four bytes to a token, as in English."""
    return -(-prompt.size_bytes() // 4)


def _sampling(prompt: Prompt, strand: int, done_tokens: int) -> dict[str, Any]:
    wanted = prompt.sampling
    values = {
        "max_tokens": None if wanted.max_tokens is None else max(1, wanted.max_tokens - done_tokens),
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "top_k": wanted.top_k,
        "min_p": wanted.min_p,
        # Strands of one request would otherwise all be the same.
        "seed": None if wanted.seed is None else wanted.seed + strand % prompt.n,
        "presence_penalty": wanted.presence_penalty,
        "frequency_penalty": wanted.frequency_penalty,
        "logit_bias": wanted.logit_bias,
        "stop": list(wanted.stop) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _completion_prompt(prompt: Prompt, strand: int, resume: Resume | None) -> str | list[int]:
    start = prompt.texts[strand // prompt.n]
    if isinstance(start, str):
        return start + (resume.text if resume else "")
    ids = [part for part in resume.parts if isinstance(part, int)] if resume else []
    if resume and len(ids) != len(resume.parts):
        raise EngineFailed("A prompt of token ids cannot go on from text.", reason="not_resumable")
    return [*start, *ids]


def _chat(prompt: Prompt, resume: Resume | None) -> dict[str, Any]:
    messages = list(prompt.messages)
    if resume and resume.text:
        begun = messages.pop().text if _prefilled(messages) else ""
        messages.append(Message("assistant", begun + resume.text))
    body: dict[str, Any] = {"messages": [_message(m) for m in messages]}
    if _prefilled(messages):
        # vLLM needs telling; llama.cpp continues a last message of the assistant by itself.
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if prompt.tools:
        body["tools"] = [_tool(prompt, index) for index in range(len(prompt.tools))]
        body["tool_choice"] = _tool_choice(prompt)
        if not prompt.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    return body | _format(prompt)


def _prefilled(messages: list[Message]) -> bool:
    return bool(messages) and messages[-1].role == "assistant" and not messages[-1].tool_calls


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        body["content"] = message.text or None
        body["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        body["name"] = message.name
    return body


def _tool(prompt: Prompt, index: int) -> dict[str, Any]:
    tool = prompt.tools[index]
    guard(tool.parameters, f"tools[{index}]")
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _tool_choice(prompt: Prompt) -> Any:
    choice = prompt.tool_choice
    if choice.mode != "named":
        return choice.mode
    if all(tool.name != choice.name for tool in prompt.tools):
        raise BadRequest(f"tool_choice names {choice.name!r}, which is none of the tools.", param="tool_choice")
    return {"type": "function", "function": {"name": choice.name}}


def _format(prompt: Prompt) -> dict[str, Any]:
    if prompt.format.kind == "text":
        return {}
    if prompt.format.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    guard(prompt.format.schema, "response_format")
    schema = {"name": prompt.format.name or "answer", "schema": prompt.format.schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


class _Counted(Struct):
    count: int | None = None
    input_tokens: int | None = None
    tokens: list[Any] | None = None


class _Embedding(Struct):
    embedding: list[float]
    index: int = 0


class _Embedded(Struct):
    data: list[_Embedding]
    usage: UsageTold = msgspec.field(default_factory=UsageTold)
