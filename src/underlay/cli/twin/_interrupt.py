"""Ctrl-C as a wish: the first is heard by whoever asks, the second ends it all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from underlay.cli import _says


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed since; in a thread that cannot hear it, never."""
    pressed = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        _says.progress("stopping; what is there by now is kept (Ctrl-C again to drop it)")

    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
