"""What a caller asks for, whatever dialect it was said in."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Operation = Literal["chat", "completion", "embedding", "count"]
Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(Struct, frozen=True):
    """A call of a tool that a model made: ``arguments`` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True):
    """One turn of a conversation. A ``tool`` message answers the call ``tool_call_id``."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


class Tool(Struct, frozen=True):
    """A function that the model may call; ``parameters`` is a JSON schema (lower-case type names)."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class ToolChoice(Struct, frozen=True):
    """Whether a tool must be called; ``name`` only with ``named``."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


class Format(Struct, frozen=True):
    """The shape that the answer must have; ``schema`` only with ``json_schema``."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    schema: dict[str, Any] | None = None
    name: str = ""


class Sampling(Struct, frozen=True):
    """How tokens are drawn. ``None`` leaves a value to the engine.

    ``logprobs`` is the number of alternatives wanted beside each token (0: only its own), ``None`` for none at all.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


class Prompt(Struct, frozen=True):
    """One request for generated text, embeddings or a token count.

    ``messages`` serves ``chat`` and ``count``; ``texts`` serves ``completion`` and ``embedding`` (each a
    string or a list of token ids). ``n`` answers are wanted for every text, so the number of *strands*
    (independent generations of one request) is ``len(texts) * n``, or ``n`` for a chat.
    """

    operation: Operation
    model: str
    messages: tuple[Message, ...] = ()
    texts: tuple[str | tuple[int, ...], ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    format: Format = Format()
    sampling: Sampling = Sampling()
    n: int = 1

    @property
    def strands(self) -> int:
        """How many generations this request starts."""
        return self.n * (len(self.texts) if self.operation == "completion" else 1)

    def size_bytes(self) -> int:
        """Length in bytes of all the text the engine must read; about four times its tokens in English."""
        size = sum(_size(m.text) + sum(_size(c.arguments) for c in m.tool_calls) for m in self.messages)
        size += sum(_size(t) if isinstance(t, str) else 4 * len(t) for t in self.texts)
        return size + sum(_size(t.description) + _size(str(t.parameters)) for t in self.tools)


def _size(text: str) -> int:
    """Bytes, not characters: three for most Chinese ones, each about a token."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class Ask(Struct, frozen=True):
    """A parsed request: the prompt and how its caller wants the answer delivered.

    ``ignored`` lists documented fields that have no effect here (the journey reports them), ``deadline_s``
    is how long the caller will wait, ``previous`` names an earlier stored response to continue (Responses
    API), ``defer_s`` is how long the whole answer may take where it can wait for a better hour (none: it cannot),
    and ``extras`` carries what only the dialect itself must remember until it writes the reply.

    ``session`` is what the caller calls the conversation, if it names it. ``band`` is the class of urgency that
    was asked for (empty: none in particular), and once the desk has let the request in, the one it was given.
    """

    prompt: Prompt
    stream: bool = False
    ignored: tuple[str, ...] = ()
    deadline_s: float | None = None
    defer_s: float | None = None
    previous: str | None = None
    store: bool = False
    session: str = ""
    band: str = ""
    extras: dict[str, Any] = {}
