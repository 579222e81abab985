"""A request for generated text: asks engines, streams what they say, resumes where one broke off."""

from __future__ import annotations

from collections.abc import Callable

from underlay.control.delivery import StrandProgress
from underlay.control.effects import Dispatch
from underlay.control.events import AttemptFailed, Failure, Finished, FirstToken, Progress
from underlay.dialects.wire import Writer
from underlay.domain.answer import EngineEvent, Receipt, Resume, StrandEnd, Timings, Usage
from underlay.domain.errors import EngineFailed, UnderlayError
from underlay.live.engines.adapter import Reader
from underlay.live.engines.connections import Call
from underlay.live.gateway.exchange import Exchange

_PROGRESS_TOKENS = 32  # how many tokens of work a kill -9 of the gateway may leave unbilled, at most


class StrandCall:
    """One strand's exchange with an engine, within one attempt. A ``Receiver`` of its call."""

    __slots__ = ("_answer", "_code", "_generation", "_reader", "call", "index", "last_at")

    def __init__(self, generation: Generation, index: int, reader: Reader) -> None:
        self._generation = generation
        self._reader = reader
        self._code = 200
        self._answer: list[bytes] = []
        self.index = index
        self.call: Call | None = None
        self.last_at = generation.driver.clock()

    def status(self, code: int) -> None:
        """Hear the status."""
        self._code = code

    def body(self, data: bytes) -> None:
        """Hear part of the stream, or of an error."""
        self.last_at = self._generation.driver.clock()
        if self._code != 200:
            self._answer.append(data)
            return
        try:
            events = self._reader.feed(data)
        except UnderlayError as error:
            self._broken(error, "malformed")
            return
        try:
            self._generation.heard(self.index, events)
        except EngineFailed as error:  # what the engine says makes no sense in the caller's dialect
            self._broken(error, "malformed")

    def done(self) -> None:
        """Hear that the reply ended."""
        if self._code != 200:
            adapter = self._generation.adapter
            self._broken(adapter.error(self._code, b"".join(self._answer)), "engine_error")
            return
        try:
            self._reader.finish()
        except UnderlayError as error:
            self._broken(error, "reset")

    def failed(self, failure: str, detail: str) -> None:
        """Hear that the connection broke."""
        self._generation.failed(failure, detail)

    def _broken(self, error: UnderlayError, failure: Failure) -> None:
        self._generation.broken(self._generation.blame(error, failure), error.message)


class Generation(Exchange):
    """A chat, a message, a completion, a response."""

    writer: Writer
    on_kept: Callable[[Generation, bytes], None]

    def prepare(self) -> None:
        """Set up the strands; once, before ``begin``."""
        self.writer = self.dialect.writer(self.route, self.ask, self.opening)
        self.adapter = self.driver.adapter(self.ask.prompt.model)
        self.strands = [StrandProgress() for _ in range(self.ask.prompt.strands)]
        self.calls: list[StrandCall] = []
        self.timings = Timings()
        self._opened = False  # the preamble has been written
        self._prompt_tokens: int | None = None
        self._cached_tokens = 0
        self._dispatched_at = 0.0
        self._told_tokens = 0
        self._sent_at = 0.0
        self._seen_attempt = 0  # the attempt whose first token has been reported
        self._paused = False
        self._finished = False
        self._first_token_due = False  # the present attempt's first token has not been reported yet
        self._unsent: list[bytes] = []
        self._engine = self.driver.engine_settings(self.ask.prompt.model)

    # Asking engines.

    def ask_engine(self, effect: Dispatch) -> None:
        """Ask the replica for every strand that has not ended."""
        self._dispatched_at = self.driver.clock()
        self.calls = []
        address = self.driver.address(effect.replica)
        if address is None:
            self.broken("connect", "the replica is gone")
            return
        extra = f"traceparent: {self.trail.traceparent}\r\n".encode()
        prompt = self.ask.prompt
        for index, strand in enumerate(self.strands):
            resume = self._take_up(strand, again=effect.resume)
            if strand.end is None:
                call = StrandCall(self, index, self.adapter.reader(prompt, resume))
                self.calls.append(call)
                call.call = self.driver.pool.call(
                    address, self.adapter.generate(prompt, index, resume), call, extra
                )
                if self._paused:
                    call.call.pause()
        self._flush()  # a strand may have ended by being taken up
        self._end_if_all_ended()

    def _take_up(self, strand: StrandProgress, *, again: bool) -> Resume | None:
        """Where this strand begins in a new attempt; ends it here if nothing is left to ask for."""
        if strand.end is not None:
            return None
        if not again:
            strand.restart()
            return None
        resume = strand.resume()
        limit = self.ask.prompt.sampling.max_tokens
        if resume is not None and limit is not None and resume.completion_tokens >= limit:
            # The last token was delivered and only the engine's last word was lost: its limit says it.
            self._strand_ended(self.strands.index(strand), strand, StrandEnd("length"))
        return resume

    def stop_engine(self) -> None:
        """Destroy the connections of this attempt, so that the engine frees its slots."""
        for call in self.calls:
            if call.call is not None:
                call.call.abort()
        self.calls = []

    def broken(self, failure: Failure, detail: str) -> None:
        """Report that the attempt failed; what comes next is the desk's decision."""
        now = self.driver.clock()
        if failure == "rejected":
            detail = ""  # it may repeat the caller's words, which belong into the reply only
        name = "prefill" if self._seen_attempt != self.attempt else "decode"
        why = f"attempt {self.attempt} failed ({failure}): {detail}"
        self.trail.hop(name, self._dispatched_at, now, who=self.replica, why=why)
        self.stop_engine()
        self._flush()
        self._report_first_token()
        delivered = sum(strand.delivered_tokens for strand in self.strands)
        self.driver.submit(
            AttemptFailed(
                at=self.driver.now(),
                ticket=self.ticket,
                attempt=self.attempt,
                failure=failure,
                completion_tokens=delivered,
                detail=detail,
            )
        )

    # Hearing them.

    def heard(self, index: int, events: list[EngineEvent]) -> None:
        """Take in what an engine said of one strand, and send it on in one write."""
        strand = self.strands[index]
        for event in events:
            if strand.end is not None:
                break
            if self._seen_attempt != self.attempt:
                self._first_token(event)
            piece = strand.accept(event)
            if piece is not None and self.ask.stream:
                self._unsent.append(self.writer.piece(index, piece))
            if event.end is not None:
                self._note_timings(event)
                self._strand_ended(index, strand, event.end)
        self._flush()
        self._report_first_token()  # after the caller has it: the desk can wait
        self._report_progress()
        self._end_if_all_ended()

    def _first_token(self, event: EngineEvent) -> None:
        now = self.driver.clock()
        self._seen_attempt = self.attempt
        if self._prompt_tokens is None:
            self._prompt_tokens = event.prompt_tokens or 0
            self._cached_tokens = event.cached_tokens or 0
        if self.first_token_at is None:
            self.first_token_at = now
        why = f"attempt {self.attempt}; until the first token"
        tokens = event.prompt_tokens
        self.trail.hop("prefill", self._dispatched_at, now, who=self.replica, why=why, tokens=tokens)
        self._dispatched_at = now
        self._first_token_due = True
        if self.ask.stream and not self._opened:
            self._opened = True
            self._unsent.append(self.writer.open(Usage(self._prompt_tokens, self._cached_tokens)))

    def _report_first_token(self) -> None:
        if not self._first_token_due:
            return
        self._first_token_due = False
        self.driver.submit(
            FirstToken(
                at=self.driver.now(),
                ticket=self.ticket,
                attempt=self.attempt,
                prompt_tokens=self._prompt_tokens or 0,
                cached_tokens=self._cached_tokens,
            )
        )

    def _note_timings(self, event: EngineEvent) -> None:
        self._prompt_tokens = self._prompt_tokens or event.prompt_tokens
        if event.cached_tokens is not None and self.attempt == 1:  # ground truth comes with the last event
            self._cached_tokens = event.cached_tokens
        self.timings = event.timings or self.timings

    def _strand_ended(self, index: int, strand: StrandProgress, end: StrandEnd) -> None:
        strand.end = end
        if self.ask.stream:
            self._unsent.append(self.writer.end(index, end))

    def _flush(self) -> None:
        """Send what has gathered, the head first."""
        data = b"".join(self._unsent)
        self._unsent.clear()
        if not data or self.answered:
            return
        self._sent_at = self.driver.clock()
        if self.started:
            self.connection.stream(data)
        else:
            self._start(data)

    def _start(self, first: bytes) -> None:
        self.started = True
        self._status = 200
        self._sent_at = self.driver.clock()
        headers = self.headers(*self.dialect.stream_headers(self.route, self.ask))
        self.connection.begin_stream(self.request, headers, first)

    def _report_progress(self) -> None:
        produced = sum(strand.completion_tokens for strand in self.strands)
        if produced - self._told_tokens >= _PROGRESS_TOKENS:
            self._told_tokens = produced
            self.driver.submit(Progress(at=self.driver.now(), ticket=self.ticket, completion_tokens=produced))

    def _end_if_all_ended(self) -> None:
        if self._finished or any(strand.end is None for strand in self.strands):
            return
        self._finished = True
        now = self.driver.clock()
        usage = self.produced()
        prefill, decode = self.timings.prefill_ms, self.timings.decode_ms
        why = (
            f"by the engine's clock: prefill {prefill:.1f} ms, decode {decode:.1f} ms; {usage.cached_tokens} cached"
        )
        self.trail.hop(
            "decode", self._dispatched_at, now, who=self.replica, why=why, tokens=usage.completion_tokens
        )
        self.driver.submit(
            Finished(
                at=self.driver.now(), ticket=self.ticket, attempt=self.attempt, usage=usage, timings=self.timings
            )
        )

    def produced(self) -> Usage:
        """Tokens by the engines' counters; the prompt once."""
        completion = sum(strand.completion_tokens for strand in self.strands)
        return Usage(self._prompt_tokens or 0, self._cached_tokens, completion)

    # Ending.

    def complete(self, receipt: Receipt) -> None:
        """Send the last frames, or the whole reply."""
        if self.answered:
            return
        if self.ask.stream:
            self.answered = True
            last = self.writer.close(receipt)
            self._keep(getattr(self.writer, "final", None))
            if not self.started:
                self._start(last)
                last = b""
            self.connection.end_stream(self.request, last)
            return
        whole = [strand.whole() for strand in self.strands]
        body = self.dialect.reply(self.route, self.ask, self.opening, whole, receipt)
        self._keep(body)
        self.send_whole(body, receipt)

    def _keep(self, body: bytes | None) -> None:
        """Keep the reply where its caller may ask for it again (Responses API)."""
        if self.ask.store and body is not None:
            self.on_kept(self, body)

    def error_frame(self, error: UnderlayError) -> bytes:
        """The dialect's in-band error, after its preamble if that has not been written."""
        preamble = b"" if self._opened else self.writer.open(Usage())
        return preamble + self.writer.fail(error)

    # Time and slow readers.

    def pause(self) -> None:
        """Stop reading from the engines while the client reads too slowly."""
        self._paused = True
        for call in self.calls:
            if call.call is not None:
                call.call.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        now = self.driver.clock()
        for call in self.calls:
            call.last_at = now
            if call.call is not None:
                call.call.resume()

    def sweep(self, now: float) -> None:
        """Send headers before clients lose patience, blank lines in long silences, and notice stalls."""
        if self.answered:
            return
        if self.ask.stream:
            self._break_silence(now)
        if self.calls and not self._paused:
            self._notice_stall(now)

    def _break_silence(self, now: float) -> None:
        settings = self.connection.settings
        if not self.started:
            if now - self.trail.began_at >= settings.hold_headers_s:
                self._start(b"\n")
        elif now - self._sent_at >= settings.keepalive_s:
            self._sent_at = now
            self.connection.stream(b"\n")

    def _notice_stall(self, now: float) -> None:
        prefilling = self._seen_attempt != self.attempt
        patience_s = self._engine.stall_s * (4 if prefilling else 1)  # a long prompt is silent for long
        if any(self.strands[c.index].end is None and now - c.last_at > patience_s for c in self.calls):
            self.broken("stall", f"no token for {patience_s:.0f} s")
