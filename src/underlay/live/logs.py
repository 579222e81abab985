"""Logs: one line per request and per change of state, on stderr. Never a prompt, an answer or a secret.

JSON for machines, colours for a terminal. What a line may carry is chosen where it is written; key ids and
tenants are names that the operator gave, secrets never come this far.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

import msgspec
import structlog

from underlay.live.settings import LogSettings


def configure(settings: LogSettings) -> None:
    """Set up logging for this process."""
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_serialise)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]  # it only writes
        cache_logger_on_first_use=True,
    )


class _Stderr:
    """Standard error that never raises: a full disk or a closed pipe behind it must not stop the service."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def _serialise(line: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()
