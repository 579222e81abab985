"""What has the caller got, and from where does another engine go on?

Decided from the events of one strand's exchanges, in order. An engine withholds text that may turn out to be
part of a stop string or of a character; tokens behind withheld text are not *delivered*, so after a failure
the next engine makes them anew: nothing is sent twice and nothing is left out, and since no delivered text
ends in the beginning of a stop string, stop strings hold across the seam. It refuses to know sockets and
dialects; it is told what an engine said and says what that amounts to.
"""

from __future__ import annotations

from underlay.domain.answer import EngineEvent, Piece, Resume, Strand, StrandEnd, TokenLogprob
from underlay.domain.prompt import ToolCall


class StrandProgress:
    """One generation of a request, across all attempts.

    ``completion_tokens`` counts tokens produced for the caller: those delivered by earlier attempts and all of
    the present one. ``delivered`` tells whether the strand has got anything at all.
    """

    __slots__ = (
        "_base_tokens",
        "_counted",
        "_parts",
        "_parts_known",
        "_settled_tokens",
        "_text",
        "_withheld",
        "completion_tokens",
        "end",
        "logprobs",
        "tool_calls",
    )

    def __init__(self) -> None:
        self.logprobs: list[TokenLogprob] = []
        self.restart()

    def restart(self) -> None:
        """Forget everything: the strand starts afresh."""
        self._base_tokens = 0  # delivered by earlier attempts
        self._settled_tokens = 0  # of this attempt, with all their text delivered
        self._counted = 0  # of this attempt, by the engine's count at the last settled event
        self._parts: list[int | str] = []
        self._parts_known = True
        self._text: list[str] = []
        self._withheld: list[int] = []
        self.completion_tokens = 0
        self.end: StrandEnd | None = None
        self.logprobs.clear()
        self.tool_calls: list[list[str]] = []

    @property
    def delivered(self) -> bool:
        """Whether anything of this strand has been delivered."""
        return bool(self._text or self.tool_calls)

    @property
    def delivered_tokens(self) -> int:
        """Tokens whose text has all been delivered, over all attempts: what a next attempt goes on from."""
        return self._base_tokens + self._settled_tokens

    def accept(self, event: EngineEvent) -> Piece | None:
        """Take in the next event of the present attempt; returns what to deliver, if anything."""
        assert self.end is None, "an engine spoke after its last word"
        self.completion_tokens = self._base_tokens + event.completion_tokens
        piece = event.piece
        if piece is not None and (piece.text or piece.tool_calls):
            self._settle(piece.text, event)
        else:
            self._withheld.extend(event.tokens)
        if piece is not None:
            self._keep(piece)
        self.end = event.end
        return piece

    def _settle(self, text: str, event: EngineEvent) -> None:
        """All text of all tokens so far is delivered now."""
        ids = [*self._withheld, *event.tokens]
        if ids and len(ids) == event.completion_tokens - self._counted:
            self._parts.extend(ids)
        elif text:  # the engine sent no ids, or none for the parts of a character: the text says the same
            self._parts.append(text)
        else:  # a call says what it is, not how the engine wrote it
            self._parts_known = False
        self._withheld.clear()
        if text:
            self._text.append(text)
        self._counted = self._settled_tokens = event.completion_tokens

    def _keep(self, piece: Piece) -> None:
        self.logprobs.extend(piece.logprobs)
        for delta in piece.tool_calls:
            while len(self.tool_calls) <= delta.index:
                self.tool_calls.append(["", "", ""])
            call = self.tool_calls[delta.index]
            call[0] = delta.id or call[0]
            call[1] = delta.name or call[1]
            call[2] += delta.arguments

    def resume(self) -> Resume | None:
        """Begin a new attempt after what was delivered; ``None`` if nothing was. Withheld tokens are dropped."""
        self._base_tokens += self._settled_tokens
        self._settled_tokens = self._counted = 0
        self._withheld.clear()
        self.completion_tokens = self._base_tokens
        if not self.delivered:
            return None
        return Resume(
            text="".join(self._text),
            parts=self._joined() if self._parts_known else (),
            completion_tokens=self._base_tokens,
            tool_calls=self._calls(),
        )

    def _joined(self) -> tuple[int | str, ...]:
        """The delivered parts with neighbouring texts joined, as tokenizers see words across their seams."""
        joined: list[int | str] = []
        for part in self._parts:
            if isinstance(part, str) and joined and isinstance(joined[-1], str):
                joined[-1] += part
            else:
                joined.append(part)
        return tuple(joined)

    def whole(self) -> Strand:
        """The strand after its end, for replies that do not stream."""
        assert self.end is not None, "a strand without an end is not an answer"
        return Strand(
            text="".join(self._text),
            end=self.end,
            tool_calls=self._calls(),
            logprobs=tuple(self.logprobs),
        )

    def _calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall(*call) for call in self.tool_calls)
