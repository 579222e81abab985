"""Ask an engine for so many tokens, and note when each came.

llama.cpp is asked through its own ``/completion``: token ids as the prompt, a chosen slot, no end before the
last token, and at the end its own time for the prompt. Any other server is asked through ``/v1/completions``, with
words as the prompt; how many tokens those were, it says itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from underlay.domain.errors import EngineFailed
from underlay.live.engines.adapter import EngineRequest
from underlay.live.engines.connections import Address, Pool
from underlay.live.engines.stream import Frames

#: Ids that are ordinary text in any vocabulary there is (the smallest have 32,000), beyond bytes and controls.
_TOKEN_IDS = range(1_000, 30_000)
#: Words that are one token each in most vocabularies.
_WORDS = (
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not",
    "he", "his", "but", "at", "are", "this", "have", "from", "or", "had", "an", "they", "which", "one", "you",
    "were", "all", "her", "she", "there", "would",
)  # fmt: skip
#: No answer may take longer: a server that hangs must not hold the caller for good.
ANSWER_MAX_S = 600.0


class CalibrationFailed(Exception):
    """The engine cannot be measured; the message says why."""


class Server(Struct, frozen=True):
    """An engine that answers: where, in which dialect, and what it was started with.

    ``slots`` is how many requests it works on at a time, ``step_tokens`` how many tokens it computes in one step,
    ``pid`` its process, where that is ours.
    """

    address: Address
    kind: Literal["llamacpp", "openai"]
    model: str
    slots: int
    step_tokens: int
    context_tokens: int
    prefix: str = ""
    api_key: str = ""
    pid: int | None = None


class Token(NamedTuple):
    """The client's clock when a piece came, and how many tokens there were with it."""

    at_s: float
    tokens: int


class Answer:
    """What came of one request. ``prompt_s`` is the engine's own time for the prompt, where it tells it.

    ``chunks`` are the prompt's parts as it computed them, where it tells: tokens done, seconds since its start.
    """

    __slots__ = ("cached_tokens", "chunks", "over", "prompt_s", "prompt_tokens", "sent_at_s", "tokens")

    def __init__(self) -> None:
        self.sent_at_s = 0.0
        self.over = False
        self.tokens: list[Token] = []
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.prompt_s: float | None = None
        self.chunks: list[tuple[int, float]] = []

    @property
    def ttft_s(self) -> float:
        """From the request to the first token."""
        return self.tokens[0].at_s - self.sent_at_s

    @property
    def count(self) -> int:
        """How many tokens have come."""
        return self.tokens[-1].tokens if self.tokens else 0


class _Progress(Struct):
    processed: int = 0
    cache: int = 0
    time_ms: float = 0.0


class _Timings(Struct):
    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0


class _Choice(Struct):
    text: str = ""


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(Struct):
    tokens_predicted: int = 0
    prompt_progress: _Progress | None = None
    timings: _Timings | None = None
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_DECODE = msgspec.json.Decoder(_Event).decode


class _Listener:
    """Hears one streamed reply (a ``connections.Receiver``)."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._frames = Frames()
        self._status = 0
        self._refusal = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def status(self, code: int) -> None:
        self._status = code

    def body(self, data: bytes) -> None:
        if self._status != 200:
            self._refusal += data[:400]
            return
        now_s = time.monotonic()
        try:
            for payload in self._frames.feed(data):
                if payload != b"[DONE]":
                    self._hear(_DECODE(payload), now_s)
        except (msgspec.DecodeError, UnicodeDecodeError, EngineFailed) as error:
            self._fail(f"the engine's stream cannot be read: {error}")

    def _hear(self, event: _Event, now_s: float) -> None:
        answer = self._answer
        if event.error is not None:
            self._fail(f"the engine answered with an error: {event.error}")
        if event.prompt_progress is not None:
            answer.chunks.append((event.prompt_progress.processed, event.prompt_progress.time_ms / 1e3))
            return
        known = answer.count
        count = event.tokens_predicted or known + sum(1 for choice in event.choices if choice.text)
        if count > known:
            answer.tokens.append(Token(now_s, count))
        if event.timings is not None and event.timings.prompt_n:
            answer.prompt_s = event.timings.prompt_ms / 1e3
            answer.cached_tokens = event.timings.cache_n
        if event.usage is not None:
            answer.prompt_tokens = event.usage.prompt_tokens or answer.prompt_tokens

    def done(self) -> None:
        if self._status != 200:
            said = self._refusal[:200].decode(errors="replace").strip()
            self._fail(f"the engine answered {self._status}: {said}")
        elif not self._answer.tokens:
            self._fail("the engine answered without a token")
        elif not self.over.done():
            self.over.set_result(None)

    def failed(self, failure: str, detail: str) -> None:
        self._fail(f"the engine cannot be reached ({failure}): {detail}")

    def _fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(CalibrationFailed(why))


class Prompt(NamedTuple):
    """A prompt of so many tokens: ids, or words for servers that take no ids."""

    ids: tuple[int, ...]

    def text(self) -> str:
        """Words, one for each id."""
        return " ".join(_WORDS[token % len(_WORDS)] for token in self.ids)


def prompt(tokens: int, dice: random.Random) -> Prompt:
    """A prompt that nobody has asked before, so that no cache knows its beginning."""
    return Prompt(tuple(dice.choices(_TOKEN_IDS, k=tokens)))


class Asker:
    """Asks one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._pool = Pool(asyncio.get_running_loop())

    async def ask(
        self,
        prompt: Prompt,
        output_tokens: int,
        *,
        slot: int = -1,
        cached: bool = False,
        into: Answer | None = None,
    ) -> Answer:
        """Ask for exactly so many tokens; ``slot`` and ``cached`` hold where the engine lets them be chosen.

        ``into`` is filled as they come, for whoever watches. Raises ``CalibrationFailed``.
        """
        answer = Answer() if into is None else into
        answer.sent_at_s = time.monotonic()
        answer.prompt_tokens = len(prompt.ids)
        listener = _Listener(answer)
        call = self._pool.call(self.server.address, self._request(prompt, output_tokens, slot, cached), listener)
        try:
            async with asyncio.timeout(ANSWER_MAX_S):
                await listener.over
        except TimeoutError:
            raise CalibrationFailed(f"no whole answer in {ANSWER_MAX_S:g} s") from None
        finally:
            answer.over = True
            if not call.over:
                call.abort()
        return answer

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _request(self, prompt: Prompt, output_tokens: int, slot: int, cached: bool) -> EngineRequest:
        if self.server.kind == "llamacpp":
            body: dict[str, Any] = {
                "prompt": prompt.ids,
                "n_predict": output_tokens,
                "cache_prompt": cached,
                "return_progress": True,
                "id_slot": slot,
            }
            path = "/completion"
        else:
            body = {
                "model": self.server.model,
                "prompt": prompt.text(),
                "max_tokens": output_tokens,
                "stream_options": {"include_usage": True},
            }
            path = "/v1/completions"
        headers = [("content-type", "application/json")]
        if self.server.api_key:
            headers.append(("authorization", f"Bearer {self.server.api_key}"))
        encoded = msgspec.json.encode({**body, "stream": True, "ignore_eos": True})
        return EngineRequest("POST", self.server.prefix + path, encoded, tuple(headers))
