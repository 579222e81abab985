"""What holds for every test."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background leaves SIGINT ignored, and children inherit that: nothing that a
# test starts could then be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
