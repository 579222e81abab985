"""One question about a GGUF file: does the model bring a chat template? Its header tells, without a library."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_STRING, _ARRAY = 8, 9
_SIZE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEMPLATE_KEY = b"tokenizer.chat_template"


def has_chat_template(path: Path) -> bool:
    """Whether the file's metadata carry a chat template. Raises ``ValueError`` if it is no GGUF file."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        file.seek(12, 1)
        return any(_skip_entry(file) == _TEMPLATE_KEY for _ in range(_number(file)))


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
