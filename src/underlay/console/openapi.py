"""The OpenAPI 3.1 description of both listeners' JSON endpoints."""

from __future__ import annotations

from typing import Any


def document(version: str, public_url: str, console_url: str) -> dict[str, Any]:
    """Describe the platform whose listeners have these addresses."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Underlay", "version": version},
        "servers": [{"url": public_url}],
        "paths": {"/livez": {"servers": [{"url": console_url}]}},
    }
