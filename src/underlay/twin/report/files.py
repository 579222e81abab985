"""Files that are whole or not there: written beside their place, and moved into it when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write in place of ``path``; whatever goes wrong, Ctrl-C too, leaves ``path`` as it was.

    Raises ``OSError`` where it cannot be written, a device or a folder for instance.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        raise OSError(f"{path} is no file that could be replaced")
    descriptor, name = mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(_mode(place))
        part.replace(place)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a whole file of text."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _mode(place: Path) -> int:
    """The permissions that are there, or those of any new file."""
    if place.exists():
        return place.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
