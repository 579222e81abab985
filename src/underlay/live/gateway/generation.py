"""A request for generated text: asks engines, streams what they say, resumes where one broke off."""

from __future__ import annotations

from collections.abc import Callable

from underlay.control.delivery import StrandProgress
from underlay.control.effects import Admitted, Cancel, Dispatch
from underlay.control.events import AttemptFailed, Failure, Finished, FirstToken, Progress
from underlay.dialects.delivery import DEADLINE
from underlay.dialects.wire import Writer
from underlay.domain.answer import EngineEvent, Receipt, Resume, StrandEnd, Timings, Usage
from underlay.domain.errors import UnderlayError
from underlay.live.computed import Computed
from underlay.live.engines.connections import Address
from underlay.live.gateway.attempt import Attempt, StrandCall
from underlay.live.gateway.exchange import Exchange

#: Failures up to which an engine may have read the prompt; the others come at once.
_READ_MEANWHILE = frozenset({"reset", "stall", "malformed"})
_PROGRESS_TOKENS = 32  # how many tokens of work a kill -9 of the gateway may leave unbilled, at most


class Generation(Exchange):
    """A chat, a message, a completion, a response.

    As a rule one attempt runs. A hedge runs beside it until one of the two is heard: that one leads, and nothing
    of the other counts.
    """

    writer: Writer
    on_kept: Callable[[Generation, bytes], None]

    def prepare(self) -> None:
        """Set up the strands; once, before ``begin``."""
        self.adapter = self.driver.adapter(self.ask.prompt.model)
        self.strands = [StrandProgress() for _ in range(self.ask.prompt.strands)]
        self.timings = Timings()
        self._attempts: dict[int, Attempt] = {}  # those that run
        self._leader: Attempt | None = None  # the one that has been heard
        self._opened = False  # the preamble has been written
        self._prompt_tokens: int | None = None
        self._cached_tokens = 0
        self._counted_by = 0  # the attempt that read the prompt first
        self._leading_since = 0.0
        self._told_tokens = 0
        self._sent_at = 0.0
        self._paused = False
        self._finished = False
        self._first_token_due = False  # the leader's first token has not been reported yet
        self._unsent: list[bytes] = []
        self._engine = self.driver.engine_settings(self.ask.prompt.model)

    def admitted(self, effect: Admitted) -> None:
        """Note who asks, and in which band: some dialects say so in their replies."""
        super().admitted(effect)
        self.writer = self.dialect.writer(self.route, self.ask, self.opening)

    # Asking engines.

    def ask_engine(self, effect: Dispatch) -> None:
        """Ask the replica for every strand that has not ended."""
        if not effect.beside:
            self._leader = None
        elif self._leader is not None:
            self.replica = self._leader.replica
            return  # one was heard meanwhile: the desk is about to learn of it, and calls the hedge off
        attempt = Attempt(effect.attempt, effect.replica, self.driver.voice(effect.replica), self.driver.clock)
        self._attempts[attempt.number] = attempt
        address = self.driver.address(effect.replica)
        if address is None:
            self.lose(attempt, "connect", "the replica is gone")
            return
        self._ask_strands(attempt, address, again=effect.resume)
        self._flush()  # a strand may have ended by being taken up
        self._end_if_all_ended(attempt)

    def _ask_strands(self, attempt: Attempt, address: Address, *, again: bool) -> None:
        extra = f"traceparent: {self.trail.traceparent}\r\n{self._deadline_header()}".encode()
        prompt = self.ask.prompt
        salt, opening = self.driver.salt(self.tenant), self.adapter.opening(prompt)
        for index, strand in enumerate(self.strands):
            resume = self._take_up(strand, again=again)
            if strand.end is None:
                seat = self.driver.slots.take(attempt.replica, salt, self.driver.clock(), opening)
                call = StrandCall(self, attempt, index, self.adapter.reader(prompt, resume), seat)
                attempt.calls.append(call)
                request = self.adapter.generate(prompt, index, resume, seat)
                call.call = self.driver.pool.call(address, request, call, extra)
                if self._paused:
                    call.call.pause()

    def _deadline_header(self) -> str:
        """What is left of the caller's deadline, for engines that are gateways themselves."""
        if self.ask.deadline_s is None or self.first_token_at is not None:
            return ""
        left_ms = max(1, int((self.ask.deadline_s - (self.driver.clock() - self.trail.began_at)) * 1e3))
        return f"{DEADLINE}: {left_ms}\r\n"

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
        """Stop every attempt."""
        for attempt in self._attempts.values():
            attempt.stop()
        self._attempts.clear()

    def cancel(self, effect: Cancel) -> None:
        """Stop that attempt; another may run on."""
        attempt = self._attempts.pop(effect.attempt, None)
        if attempt is None:
            return
        attempt.stop()
        leader = self._leader
        if leader is attempt:
            self.computed[-1].end(self.driver.clock(), self.produced().completion_tokens, failed=False)
        else:
            self._note_unheard(attempt, failed=False)
        if leader is not None and leader is not attempt:
            why = f"attempt {attempt.number} was not needed: attempt {leader.number} was heard first"
            self.trail.hop(
                "prefill", attempt.asked_at, self.driver.clock(), who=attempt.replica, why=why,
                attempt=attempt.number,
            )  # fmt: skip

    def _note_unheard(self, attempt: Attempt, *, failed: bool) -> None:
        """Note an attempt that ends before it was heard: its engine may have read much of the prompt."""
        unheard = Computed(attempt.number, attempt.replica, attempt.asked_at, self.driver.clock())
        unheard.end(unheard.heard_at, 0, failed=failed)
        self.unheard.append(unheard)

    def cut_short(self, attempt: Attempt, failure: str, detail: str) -> None:
        """Hear that a connection of the attempt broke, or that there is none."""
        if failure == "refused":  # then it is gone for everyone, and asking it again would only use up attempts
            self.driver.on_refused(attempt.replica)  # by which this attempt may have been cancelled
        self.lose(attempt, "reset" if failure == "reset" else "connect", detail)

    def broken(self, failure: Failure, detail: str) -> None:
        """Report that the attempt last asked for failed."""
        attempt = self._attempts.get(self.attempt)
        if attempt is not None:
            self.lose(attempt, failure, detail)

    def lose(self, attempt: Attempt, failure: Failure, detail: str) -> None:
        """Report that an attempt failed, unless it does not count any more; what comes next the desk decides."""
        if self._attempts.get(attempt.number) is not attempt or self._leader not in (None, attempt):
            return
        del self._attempts[attempt.number]
        now = self.driver.clock()
        if failure == "rejected":
            detail = ""  # it may repeat the caller's words, which belong into the reply only
        leads = attempt is self._leader
        if leads:
            self.computed[-1].end(now, self.produced().completion_tokens, failed=True)
        elif failure in _READ_MEANWHILE:
            self._note_unheard(attempt, failed=True)
        since = self._leading_since if leads else attempt.asked_at
        why = f"attempt {attempt.number} failed ({failure}): {detail}"
        name = "decode" if leads else "prefill"
        self.trail.hop(name, since, now, who=attempt.replica, why=why, attempt=attempt.number)
        attempt.stop()
        self._flush()
        self._report_first_token()
        delivered = sum(strand.delivered_tokens for strand in self.strands)
        self.driver.submit(
            AttemptFailed(
                at=self.driver.now(),
                ticket=self.ticket,
                attempt=attempt.number,
                failure=failure,
                completion_tokens=delivered,
                detail=detail,
            )
        )

    # Hearing them.

    def heard(self, attempt: Attempt, index: int, events: list[EngineEvent]) -> None:
        """Take in what an engine said of one strand, and send it on in one write."""
        if attempt is not self._leader:
            if self._leader is not None or not events:
                return
            self._lead(attempt, events[0])
        strand = self.strands[index]
        for event in events:
            if strand.end is not None:
                break
            piece = strand.accept(event)
            if piece is not None and self.ask.stream:
                self._open()
                self._unsent.append(self.writer.piece(index, piece))
            if event.end is not None:
                self._note_timings(attempt, event)
                self._strand_ended(index, strand, event.end)
        self._flush()
        self._report_first_token()  # after the caller has it: the desk can wait
        self._report_progress()
        self._end_if_all_ended(attempt)

    def _lead(self, attempt: Attempt, event: EngineEvent) -> None:
        """An attempt is heard for the first time, and before any other."""
        now = self._leading_since = self.driver.clock()
        self._leader = attempt
        self.replica = attempt.replica
        self._begin_computed(attempt, event, now)
        if self._prompt_tokens is None:
            self._counted_by = attempt.number
            self._prompt_tokens = event.prompt_tokens or 0
            self._cached_tokens = event.cached_tokens or 0
        if self.first_token_at is None:
            self.first_token_at = now
        why = f"attempt {attempt.number}; until the first token"
        tokens = event.prompt_tokens
        self.trail.hop(
            "prefill", attempt.asked_at, now, who=attempt.replica, why=why, tokens=tokens, attempt=attempt.number
        )
        self._first_token_due = True

    def _begin_computed(self, attempt: Attempt, event: EngineEvent, now: float) -> None:
        if self.computed:
            self.computed[-1].failed = True  # or else no other would be asked
        computed = Computed(attempt.number, attempt.replica, attempt.asked_at, now)
        computed.prompt_tokens, computed.cached_tokens = event.prompt_tokens or 0, event.cached_tokens or 0
        computed.decoded_before = sum(
            strand.delivered_tokens if strand.end is None else strand.completion_tokens for strand in self.strands
        )
        self.computed.append(computed)

    def unheard_since(self) -> float | None:
        """Since when an attempt runs that was not heard; one beside a leader counts for nothing."""
        if self._leader is not None and self._leader.number in self._attempts:
            return None
        return min((attempt.asked_at for attempt in self._attempts.values()), default=None)

    def _report_first_token(self) -> None:
        if not self._first_token_due or self._leader is None:
            return
        self._first_token_due = False
        self.driver.submit(
            FirstToken(
                at=self.driver.now(),
                ticket=self.ticket,
                attempt=self._leader.number,
                prompt_tokens=self._prompt_tokens or 0,
                cached_tokens=self._cached_tokens,
            )
        )

    def _open(self) -> None:
        """Put the preamble before the first content: until then a failure can still be a status (K4)."""
        if not self._opened:
            self._opened = True
            self._unsent.append(self.writer.open(Usage(self._prompt_tokens or 0, self._cached_tokens)))

    def _note_timings(self, attempt: Attempt, event: EngineEvent) -> None:
        self._prompt_tokens = self._prompt_tokens or event.prompt_tokens
        if event.cached_tokens is not None and attempt.number == self._counted_by:  # the last event knows best
            self._cached_tokens = event.cached_tokens
        computed = self.computed[-1]
        computed.prompt_tokens = computed.prompt_tokens or event.prompt_tokens or 0
        if event.cached_tokens is not None:
            computed.cached_tokens = event.cached_tokens
        self.timings = event.timings or self.timings

    def _strand_ended(self, index: int, strand: StrandProgress, end: StrandEnd) -> None:
        strand.end = end
        if self.ask.stream:
            self._open()
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

    def _end_if_all_ended(self, attempt: Attempt) -> None:
        if self._finished or any(strand.end is None for strand in self.strands):
            return
        self._finished = True
        now = self.driver.clock()
        usage = self.produced()
        prefill, decode = self.timings.prefill_ms, self.timings.decode_ms
        why = (
            f"by the engine's clock: prefill {prefill:.1f} ms, decode {decode:.1f} ms; {usage.cached_tokens} cached"
        )
        since = self._leading_since if attempt is self._leader else attempt.asked_at
        tokens = usage.completion_tokens
        self.trail.hop("decode", since, now, who=attempt.replica, why=why, tokens=tokens, attempt=attempt.number)
        self.driver.submit(
            Finished(
                at=self.driver.now(), ticket=self.ticket, attempt=attempt.number, usage=usage, timings=self.timings
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
        for attempt in self._attempts.values():
            attempt.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        for attempt in self._attempts.values():
            attempt.resume()

    def sweep(self, now: float) -> None:
        """Send headers before clients lose patience, blank lines in long silences, and notice stalls."""
        if self.answered:
            return
        if self.ask.stream:
            self._break_silence(now)
        if not self._paused:
            for attempt in list(self._attempts.values()):
                self._notice_stall(attempt, now)

    def _break_silence(self, now: float) -> None:
        settings = self.connection.settings
        if not self.started:
            if now - self.trail.began_at >= settings.hold_headers_s:
                self._start(b"\n")
        elif now - self._sent_at >= settings.keepalive_s:
            self._sent_at = now
            self.connection.stream(b"\n")

    def _notice_stall(self, attempt: Attempt, now: float) -> None:
        patience_s = self._engine.stall_s * (
            1 if attempt is self._leader else 4
        )  # a long prompt is silent for long
        if any(self.strands[c.index].end is None and now - c.last_at > patience_s for c in attempt.calls):
            self.lose(attempt, "stall", f"no token for {patience_s:.0f} s")
