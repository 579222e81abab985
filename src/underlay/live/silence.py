"""Who has streams open and says nothing on any of them?

A process that was stopped, a machine that was cut off: their connections stay open and nothing comes. One stream
may be silent for long (a long prompt is being read), a whole replica hardly ever is; so each notes when it last
said anything, and one that has been silent for a second is asked at once whether it lives.
"""

from __future__ import annotations

from collections.abc import Callable

#: Silence after which a replica is asked whether it lives. Asking costs a hundred microseconds.
QUIET_S = 1.0
#: Pause between looks.
LOOK_S = 0.2

OnSilent = Callable[[str, Callable[[], bool]], None]


class Voice:
    """When a replica last said anything, on any stream. Whoever hears it writes ``heard_at``."""

    __slots__ = ("asked_at", "heard_at")

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self.asked_at = now


class Silence:
    """Looks at all voices now and then.

    ``load`` tells how many strands a replica has; ``on_silent`` is told its name, and a function that says whether
    it has stayed silent since.
    """

    def __init__(self, clock: Callable[[], float], load: Callable[[str], int], on_silent: OnSilent) -> None:
        self._clock = clock
        self._load = load
        self._on_silent = on_silent
        self._voices: dict[str, Voice] = {}

    def voice(self, replica: str) -> Voice:
        """Get the voice of a replica."""
        voice = self._voices.get(replica)
        if voice is None:
            voice = self._voices[replica] = Voice(self._clock())
        return voice

    def look(self) -> None:
        """Tell of every replica that has work and has said nothing for a while; again after as long."""
        now = self._clock()
        for replica, voice in self._voices.items():
            if not self._load(replica):
                voice.heard_at = now  # with nothing to say, it is not silent
            elif now - max(voice.heard_at, voice.asked_at) > QUIET_S:
                voice.asked_at = now
                self._on_silent(replica, _since(voice, voice.heard_at))


def _since(voice: Voice, heard_at: float) -> Callable[[], bool]:
    return lambda: voice.heard_at == heard_at
