"""What is in a journal's file, frame by frame? It may be larger than memory: the system reads what is looked at."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from underlay.control import journal
from underlay.control.journal import Entry, Header, JournalError
from underlay.domain.errors import BadRequest


@contextmanager
def opened(path: Path) -> Iterator[tuple[Header, Iterator[Entry]]]:
    """The header of a journal and its entries, while it is open. Errors: BadRequest, when they are met."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            # A map can all that is asked of bytes here: lengths, slices, numbers at a place.
            header, entries = journal.decode(cast("bytes", mapped))
            yield header, (entry for entry, _ in entries)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror or error}.", param="path") from None
    except JournalError as error:
        raise BadRequest(f"{path}: {error}.", param="path") from None
    except ValueError as error:  # what is empty cannot be mapped
        if path.stat().st_size:
            raise
        raise BadRequest(f"{path}: not a journal: it is empty.", param="path") from error


def changed_ns(path: Path) -> int:
    """When the file was written last: what was made of it before holds no longer. Errors: BadRequest."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror or error}.", param="path") from None
