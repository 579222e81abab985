"""The scripted engine with what the SDKs' features need besides words: JSON, tool calls, probabilities, vectors.

An answer that must follow a schema is the smallest value that does. Where a tool may be called it is called if
the prompt says [[call=1]] or the caller demands it. Text number n of an embedding gives a vector that depends on
its length only.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.scripted import FIRST_ID, Connection, Script, ScriptedEngine, Stream, _split, _wishes, word

PIECE_CHARS = 6
DIMENSIONS = 8


class Written(Stream):
    """A generation whose tokens are given, each with a probability if the caller wants them."""

    def __init__(self, engine: Engine, connection: Connection, wire: str, body: dict, pieces: list[str]) -> None:
        super().__init__(engine, connection, wire, body)
        self.pieces = pieces
        self.total = len(pieces)
        self.probable = bool(body.get("n_probs") or body.get("logprobs"))

    def step(self, now_s: float) -> None:
        if self.connection.stream is not self:
            return
        if self.fault and self.next >= self.fault_after and self._strike():
            return
        if self.next >= self.total:
            self._end("eos")
        elif self.predicted >= self.limit:
            self._end("limit")
        else:
            self.engine.counters.tokens_predicted_total += 1
            index, self.next = self.next, self.next + 1
            if self._say(self.pieces[index], FIRST_ID + index):
                self.engine.schedule(now_s + self.itl_s, self)

    def _send(self, text: str, token: int) -> None:
        if not self.probable:
            super()._send(text, token)
            return
        self.written.append(text)
        entry = {"token": text, "logprob": -0.5}
        entry["top_logprobs"] = [dict(entry), {"token": " other", "logprob": -1.5}]
        if self.wire == "llamacpp":
            event = {
                "content": text, "tokens": [token], "stop": False, "tokens_predicted": self.predicted,
                "tokens_evaluated": self.evaluated, "completion_probabilities": [entry],
            }  # fmt: skip
        else:
            event = json.loads(self._choice(text, None))
            event["choices"][0]["logprobs"] = {"content": [entry]}
        self.connection.event(json.dumps(event).encode())


class Engine(ScriptedEngine):
    """The scripted engine, and the features."""

    def serve(self, connection: Connection, path: str, body: bytes) -> None:
        if path == "/v1/embeddings":
            self._embed(connection, json.loads(body))
        else:
            super().serve(connection, path, body)
        if connection.stream is None and not connection._parser.should_keep_alive():
            connection.close()

    def _embed(self, connection: Connection, body: dict) -> None:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        rows = [
            {"object": "embedding", "index": n, "embedding": [len(text) / (d + 1) for d in range(DIMENSIONS)]}
            for n, text in enumerate(texts)
        ]
        tokens = sum(len(text) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        connection.reply(200, {"object": "list", "data": rows, "model": self.script.model, "usage": usage})

    def _generate(self, connection: Connection, wire: str, body: dict) -> None:
        wishes = _wishes(_split(wire, body)[0])
        if wire == "chat" and body.get("tools") and (wishes.get("call") or _forced(body)):
            self.counters.requests_total += 1
            self._call_tool(connection, body)
            return
        pieces = self._pieces(wire, body, wishes)
        if pieces is None or "status" in wishes:
            super()._generate(connection, wire, body)
            return
        self.counters.requests_total += 1
        stream = Written(self, connection, wire, body, pieces)
        connection.stream = stream
        self._waiting.append(stream)
        self._admit()

    def _pieces(self, wire: str, body: dict, wishes: dict[str, str]) -> list[str] | None:
        schema = body.get("json_schema")
        if "grammar" in body and wishes.get("call"):
            schema = json.loads(body["grammar"].partition("%json ")[2].partition("\ntext:")[0])
        wanted = body.get("response_format") or {}
        if wire == "chat" and wanted.get("type") == "json_object":
            schema = {"type": "object"}
        elif wire == "chat" and wanted.get("type") == "json_schema":
            schema = wanted["json_schema"]["schema"]
        if schema is not None:
            text = json.dumps(instance(schema, schema), separators=(",", ":"))
            return [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]
        if body.get("n_probs") or body.get("logprobs"):
            return [word(n) for n in range(int(wishes.get("tokens", self.script.tokens)))]
        return None

    def _call_tool(self, connection: Connection, body: dict) -> None:
        """Write a call as an OpenAI-compatible server does: id and name once, the arguments in parts."""
        function = body["tools"][0]["function"]
        arguments = json.dumps(instance(function["parameters"], function["parameters"]))
        half = len(arguments) // 2
        call = {"index": 0, "id": "call_scripted", "type": "function"}
        deltas = [
            {
                "role": "assistant",
                "tool_calls": [{**call, "function": {"name": function["name"], "arguments": ""}}],
            },
            {"tool_calls": [{"index": 0, "function": {"arguments": arguments[:half]}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]},
        ]
        chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        chunks.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}})
        connection.open_stream()
        for chunk in chunks:
            connection.event(json.dumps(chunk).encode())
        connection.event(b"[DONE]")
        connection.close_stream()


def _forced(body: dict) -> bool:
    return body.get("tool_choice") not in (None, "auto", "none")


def instance(schema: dict, root: dict) -> object:
    """The smallest value that follows a schema, as far as the suite's schemas go."""
    if "$ref" in schema:
        place: object = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            place = place[int(name) if isinstance(place, list) else name]  # type: ignore[index]
        return instance(place, root)  # type: ignore[arg-type]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return instance(schema[several][0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(each, root) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}), root)]
    return {"string": "Paris", "integer": 21, "number": 21.5, "boolean": True, "null": None}[kind]


async def _serve(port: int, script: Script) -> None:
    engine = Engine(script)
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    url = await engine.start(port=port)
    sys.stdout.write(json.dumps({"listening": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await done.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=40)
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # no engine outlives the tests that started it
    uvloop.run(_serve(arguments.port, Script(slots=arguments.slots)))


if __name__ == "__main__":
    main()
