"""What the desk may know of a prompt's text: keyed digests, block by block from its beginning.

Two conversations that begin alike share their leading digests, and that is all that can be told from them: the
key never leaves this machine, so that a journal on disk neither holds a word nor confirms a guess. The same key
blinds what callers call their conversations and their repeated requests, and salts the engines' own caches.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from array import array
from collections.abc import Iterator
from pathlib import Path
from struct import unpack

import msgspec

from underlay.domain.prompt import Message, Prompt
from underlay.live import locate

KEY_FILE = "digests.key"
KEY_BYTES = 32
#: About the size of the blocks that engines cache by (32 tokens), and of the hash function's own.
BLOCK_BYTES = 128
#: Beyond 64 KiB a prompt's beginning is long enough to be told apart.
BLOCKS_MAX = 512
SALT_CHARS = 32

_TEXT_BYTES_MAX = BLOCK_BYTES * BLOCKS_MAX
_encode = msgspec.json.Encoder().encode


def load_secret(data_dir: Path) -> bytes:
    """The key of all digests; made where there is none, and readable by its owner only.

    A lost one does no harm but that nothing looks familiar for a while. Raises ``OSError`` if it can neither be
    read nor written.
    """
    path = locate.prepare(data_dir) / KEY_FILE
    try:
        kept = bytes.fromhex(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        kept = b""
    if len(kept) == KEY_BYTES:
        return kept
    secret = secrets.token_bytes(KEY_BYTES)
    locate.write_private(path, secret.hex() + "\n")
    return secret


class Digests:
    """All digests made with one key. Only their equality means anything."""

    __slots__ = ("_block", "_request", "_secret", "_session")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        # Copies of a hash that has taken in its key cost half as much as new ones.
        self._block = hashlib.blake2b(key=secret, digest_size=8, person=b"block")
        self._session = hashlib.blake2b(key=secret, digest_size=8, person=b"session")
        self._request = hashlib.blake2b(key=secret, digest_size=16, person=b"request")

    def blocks(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt's leading whole blocks, as 64-bit numbers; none where no engine caches what it reads."""
        text = beginning(prompt)
        copy, digested = self._block.copy, []
        for start in range(0, len(text) - BLOCK_BYTES + 1, BLOCK_BYTES):
            block = copy()
            block.update(text[start : start + BLOCK_BYTES])
            digested.append(block.digest())
        return unpack(f"<{len(digested)}Q", b"".join(digested))

    def session(self, name: str, tenant: str) -> int:
        """A conversation by what its caller calls it, as a 64-bit number; 0 if it has no name."""
        if not name:
            return 0
        session = self._session.copy()
        session.update(f"{tenant}\0{name}".encode("utf-8", "surrogatepass"))
        return int.from_bytes(session.digest(), "little") or 1

    def request(self, *parts: bytes) -> str:
        """What makes a request the same as another one, as 32 hexadecimal digits."""
        request = self._request.copy()
        for part in parts:
            request.update(len(part).to_bytes(8, "little"))  # else the seams between parts could be moved
            request.update(part)
        return request.hexdigest()

    def salt(self, tenant: str) -> str:
        """What an engine's prefix cache is to be salted with, so that tenants cannot feel each other's prompts."""
        named = tenant.encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, b"salt\0" + named, "sha256").hex()[:SALT_CHARS]


def beginning(prompt: Prompt) -> bytes:
    """The first 64 KiB of what an engine reads, in one form for all dialects and templates.

    Tools come first, where nearly all templates put them. Of a completion with several texts only the first one
    counts: they are read side by side. Embeddings and counts are cached by no engine.
    """
    if prompt.operation == "completion":
        return _text_beginning(prompt.texts[0]) if prompt.texts else b""
    if prompt.operation != "chat":
        return b""
    parts: list[bytes] = []
    room = _TEXT_BYTES_MAX
    for part in _parts(prompt):
        parts.append(part)
        room -= len(part)
        if room <= 0:
            break
    return b"".join(parts)[:_TEXT_BYTES_MAX]


def _text_beginning(text: str | tuple[int, ...]) -> bytes:
    if isinstance(text, str):
        return _encoded(text)[:_TEXT_BYTES_MAX]
    return array("I", text[: _TEXT_BYTES_MAX // 4]).tobytes()  # 32 tokens a block, as text has about


def _parts(prompt: Prompt) -> Iterator[bytes]:
    for tool in prompt.tools:
        yield b"\x00tool\x00%b\x00%b\x00%b" % (
            _encoded(tool.name), _encoded(tool.description), _encode(tool.parameters)
        )  # fmt: skip
    for message in prompt.messages:
        yield b"\x00%b\x00%b" % (message.role.encode(), _encoded(message.text))
        if message.tool_calls:
            yield from _calls(message)


def _calls(message: Message) -> Iterator[bytes]:
    for call in message.tool_calls:
        yield b"\x00call\x00%b\x00%b" % (_encoded(call.name), _encoded(call.arguments))


def _encoded(text: str) -> bytes:
    return text[:_TEXT_BYTES_MAX].encode("utf-8", "surrogatepass")
