"""What a GGUF file says of its model in its header, read without a library."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_STRING, _ARRAY = 8, 9
_SIZE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def has_chat_template(path: Path) -> bool:
    """Whether the file's metadata carry a chat template. Raises ``ValueError`` if it is no GGUF file."""
    return any(key == b"tokenizer.chat_template" for key in _keys(path))


def has_pooling(path: Path) -> bool:
    """Whether it says how token embeddings become one of a text, as models made for embedding do."""
    return any(key.endswith(b".pooling_type") for key in _keys(path))


def _keys(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        file.seek(12, 1)
        for _ in range(_number(file)):
            yield _skip_entry(file)


def _number(file: BinaryIO) -> int:
    return int.from_bytes(file.read(8), "little")


def _skip_entry(file: BinaryIO) -> bytes:
    """Read one key, skip its value."""
    key = file.read(_number(file))
    if not key:
        raise ValueError("the GGUF file ends within its header")
    _skip(file, int.from_bytes(file.read(4), "little"))
    return key


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        file.seek(_number(file), 1)
    elif kind == _ARRAY:
        element, count = struct.unpack("<IQ", file.read(12))
        if element in _SIZE_BYTES:
            file.seek(_SIZE_BYTES[element] * count, 1)
            return
        for _ in range(count):
            _skip(file, element)
    elif kind in _SIZE_BYTES:
        file.seek(_SIZE_BYTES[kind], 1)
    else:
        raise ValueError("the GGUF file has a value of unknown kind in its header")
