"""Which platform a verb talks to, and with which key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from underlay.cli._says import DENIED, UNREACHABLE, Failure
from underlay.live import locate

KEY_NAME = "local.key"
#: The same as the default of ``Settings.data_dir``, which would take a quarter of a second to ask.
DEFAULT_DATA_DIR = "~/.local/share/underlay"


class Target(NamedTuple):
    """A platform: its two addresses and a key. ``console_url`` is ``None`` where nobody has told it."""

    public_url: str
    console_url: str | None
    key: str


def local_target(data_dir: Path, key: str | None = None) -> Target | None:
    """The platform that runs on this data directory, with the local key unless another is given."""
    run = locate.find(data_dir)
    if run is None:
        return None
    return Target(run.public_url, run.console_url, key or _local_key(data_dir))


def named_target(url: str, key: str | None, data_dir: Path) -> Target:
    """The platform at an address. The local key is shown to this machine's own platform and to no other."""
    local = local_target(data_dir, key)
    if local is not None and url.rstrip("/").removesuffix("/v1") in {local.public_url, local.console_url}:
        return local
    if not key:
        raise Failure("key_missing", f"no key for {url}", "--key KEY or UNDERLAY_KEY", exit_code=DENIED)
    return Target(url.rstrip("/").removesuffix("/v1"), None, key)


def target(url: str | None, key: str | None, data_dir: Path) -> Target | None:
    """The platform meant by flags, ``UNDERLAY_URL`` and ``UNDERLAY_KEY``, or the one that runs here."""
    url = url or os.environ.get("UNDERLAY_URL")
    key = key or os.environ.get("UNDERLAY_KEY")
    return named_target(url, key, data_dir) if url else local_target(data_dir, key)


def console_target(url: str | None, key: str | None, data_dir: Path) -> Target | None:
    """As ``target``, for the console listener: there ``--url`` names the console itself."""
    if not url:
        return local_target(data_dir, key or os.environ.get("UNDERLAY_KEY"))
    found = named_target(url, key or os.environ.get("UNDERLAY_KEY"), data_dir)
    return found if found.console_url else found._replace(console_url=found.public_url)


def required(found: Target | None, data_dir: Path) -> Target:
    """The platform, or a failure that says that none runs."""
    if found is None:
        raise Failure("not_running", f"no platform runs on {data_dir}", "underlay up", exit_code=UNREACHABLE)
    return found


def _local_key(data_dir: Path) -> str:
    try:
        return (data_dir / KEY_NAME).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"the local key cannot be read: {error}"
        raise Failure("key_missing", message, "--key KEY or UNDERLAY_KEY", exit_code=DENIED) from None


def data_dir(flag: str | Path | None, config: str | Path | None, environ: Mapping[str, str]) -> Path:
    """Where keys, ledger and ``run.json`` lie, without reading all settings if that can be avoided."""
    told = flag or environ.get("UNDERLAY_DATA_DIR")
    if told:
        return Path(told).expanduser()
    path = locate.settings_path(config, environ)
    if path is not None and _may_set_data_dir(path):
        from underlay.live.settings_file import load  # only where a file may say otherwise

        return load(path, environ, {}).settings.data_dir
    return Path(DEFAULT_DATA_DIR).expanduser()


def _may_set_data_dir(path: Path) -> bool:
    """Whether a full reading could find another directory; a file that cannot be read gets its error there."""
    try:
        return re.search(r"data_dir", path.read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return True
