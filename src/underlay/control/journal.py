"""Events and effects as bytes and back: the desk's diary, from which every decision can be made again.

What is decided here: only the format. A journal is a row of frames; each is a length, the same with every bit
turned over, and a CRC-32 (all little-endian, 4 bytes), and then that many bytes of MessagePack. The first
frame is a ``Header``, every other one an ``Entry``. A torn last frame (the process was killed while writing,
or a file system filled up with zeros what a power failure took) ends the journal and is not an error; a broken
frame with more behind it is. The length is there twice so that a broken one does not pass for a torn frame
and hide all that follows. It refuses to know files: it gets bytes and gives bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from underlay.domain.policy import DeskSettings

from .effects import AnyEffect
from .events import AnyEvent

#: 2: the desk of bands, budgets and policies; what the one before decided cannot be decided again.
FORMAT = 2
_FRAME = struct.Struct("<III")
_BITS = 0xFFFFFFFF


class Header(Struct, frozen=True):
    """The first frame: the format, when and by which version it was begun, and the desk's settings."""

    format: int
    version: str
    begun_at: float
    settings: DeskSettings


class Entry(Struct, frozen=True, array_like=True):
    """One event and the effects that the desk answered it with."""

    event: AnyEvent
    effects: list[AnyEffect]


class JournalError(ValueError):
    """The bytes are not a journal, or one that was damaged; the message says where."""


_encoder = msgspec.msgpack.Encoder()
_entry_decoder = msgspec.msgpack.Decoder(Entry)
_header_decoder = msgspec.msgpack.Decoder(Header)


def encode(record: Header | Entry) -> bytes:
    """One frame."""
    payload = _encoder.encode(record)
    return _FRAME.pack(len(payload), len(payload) ^ _BITS, zlib.crc32(payload)) + payload


def decode(data: bytes) -> tuple[Header, Iterator[tuple[Entry, int]]]:
    """Read a journal: its header, then each entry with the offset just behind it.

    Raises ``JournalError`` at once for a bad header, and while iterating for a damaged frame.
    """
    frames = _frames(data)
    try:
        payload, _ = next(frames)
        header = _header_decoder.decode(payload)
    except (StopIteration, msgspec.DecodeError) as error:
        raise JournalError("not a journal: it does not begin with a header") from error
    if header.format != FORMAT:
        raise JournalError(f"journal format {header.format} is not known here (this is format {FORMAT})")
    return header, _entries(frames)


def _entries(frames: Iterator[tuple[bytes, int]]) -> Iterator[tuple[Entry, int]]:
    for payload, end in frames:
        try:
            yield _entry_decoder.decode(payload), end
        except msgspec.DecodeError as error:
            raise JournalError(f"the entry that ends at byte {end} cannot be understood: {error}") from error


def _frames(data: bytes) -> Iterator[tuple[bytes, int]]:
    offset = 0
    while offset + _FRAME.size <= len(data):
        length, turned, checksum = _FRAME.unpack_from(data, offset)
        if length != turned ^ _BITS:
            if not any(data[offset:]):
                return
            raise JournalError(f"the frame at byte {offset} is damaged (length)")
        end = offset + _FRAME.size + length
        if end > len(data):
            return
        payload = data[offset + _FRAME.size : end]
        if zlib.crc32(payload) != checksum:
            if end == len(data):
                return
            raise JournalError(f"the frame at byte {offset} is damaged (checksum)")
        yield payload, end
        offset = end
