"""Conversations as plain text, for base models: a short transcript that the model goes on writing.

The opening examples are what make a base model answer instead of asking further questions. They come first
and never change, so that every conversation shares them in the engine's prefix cache; everything that varies
comes after. Of the variants tried on Gemma 3 270M (headers ``User``/``###``/``Q``, three to seven examples,
with and without a sentence of introduction) this one answered most ordinary questions sensibly, in half the
tokens of the longest.
"""

from __future__ import annotations

import msgspec

from underlay.domain.prompt import Message, Prompt, ToolCall

_ASK = "Question:"
_ANSWER = "Answer:"
_RESULT = "Result:"

_EXAMPLES = (
    ("Hi!", "Hello! How can I help you?"),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ('Translate "thank you" into German.', "Danke."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci painted the Mona Lisa."),
    (
        "Write a short poem about the sea.",
        "The sea is wide, the sea is deep,\nIt sings the tired sun to sleep.",
    ),
)

PREAMBLE = "".join(f"{_ASK} {ask}\n{_ANSWER} {answer}\n\n" for ask, answer in _EXAMPLES)

#: Where an answer ends: the model begins to write the next turn itself. The longer ones come first so that
#: the blank line before a turn does not end up in the answer.
STOPS = (f"\n\n{_ASK}", f"\n{_ASK}", f"\n\n{_RESULT}", f"\n{_RESULT}", f"\n\n{_ANSWER}", f"\n{_ANSWER}")


def render(prompt: Prompt) -> str:
    """The conversation up to where the model goes on.

    A last message of the assistant is the beginning of the answer (a prefill). Otherwise the text ends in
    ``Answer:`` without a space: models write the space as part of their first word.
    """
    turns = prompt.messages
    system = "\n\n".join(m.text for m in turns if m.role == "system" and m.text)
    parts = [PREAMBLE, _tools(prompt), f"{system}\n\n" if system else ""]
    parts += [_turn(m) for m in turns if m.role != "system"]
    text = "".join(parts)
    return text.removesuffix("\n\n") if prefilled(prompt) else text + _ANSWER


def prefilled(prompt: Prompt) -> bool:
    """Whether the caller wrote the beginning of the answer."""
    last = prompt.messages[-1] if prompt.messages else None
    return last is not None and last.role == "assistant" and not last.tool_calls and bool(last.text)


def _turn(message: Message) -> str:
    if message.role == "tool":
        return f"{_RESULT} {message.text}\n\n"
    if message.role == "user":
        return f"{_ASK} {message.text}\n"
    said = [message.text] if message.text else []
    said += [_call(call) for call in message.tool_calls]
    return f"{_ANSWER} " + "\n".join(said) + "\n\n"


def _call(call: ToolCall) -> str:
    return f'{{"name":{_json(call.name)},"arguments":{call.arguments or "{}"}}}'


def _tools(prompt: Prompt) -> str:
    if not prompt.tools or prompt.tool_choice.mode == "none":
        return ""
    lines = ['The answer may be a call of a tool, {"name":"tool","arguments":{}}; then its result follows. Tools:']
    lines += [f"- {t.name}: {t.description} Arguments: {_json(t.parameters)}" for t in prompt.tools]
    return "\n".join(lines) + "\n\n"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
