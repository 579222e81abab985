"""The pages' files, read once: their bytes, compressed copies, and one version for all of them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from msgspec import Struct

CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


class Asset(Struct, frozen=True):
    """One file as it is sent."""

    body: bytes
    gzipped: bytes
    content_type: str


class Assets:
    """Every file under ``static``.

    ``version`` changes with any byte of any file, so an address that contains it can be cached for ever, and
    a page never mixes modules of two releases.
    """

    def __init__(self, root: Traversable | None = None) -> None:
        found = dict(_walk(root or files("underlay.console").joinpath("static"), ""))
        digest = sha256()
        for path in sorted(found):
            digest.update(path.encode() + b"\0" + found[path] + b"\0")
        self.version = digest.hexdigest()[:16]
        self.files = {path: _asset(path, body) for path, body in found.items()}
        self.shell = self._shell()

    def _shell(self) -> bytes:
        """Make the one HTML document, with this version's addresses and all modules announced ahead."""
        base = f"/ui/{self.version}"
        preload = "\n".join(
            f'    <link rel="modulepreload" href="{base}/{path}">'
            for path in sorted(self.files)
            if path.endswith(".js") and path != "boot.js"
        )
        page = self.files["index.html"].body.decode()
        return page.replace("    <!-- modules -->", preload).replace("%UI%", base).encode()


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        path = prefix + entry.name
        if entry.is_dir():
            yield from _walk(entry, path + "/")
        elif path.rpartition(".")[2] in CONTENT_TYPES:
            yield path, entry.read_bytes()


def _asset(path: str, body: bytes) -> Asset:
    return Asset(body, gzip.compress(body, 9, mtime=0), CONTENT_TYPES[path.rpartition(".")[2]])
