"""The docs say what the code does: links lead somewhere, references are generated, examples are valid.

``REWRITE_DOCS=1`` rewrites the generated pages; look at the difference before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from underlay.cli import main
from underlay.dialects import anthropic, gemini, openai
from underlay.live import settings_file
from underlay.live.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_names_every_verb() -> None:
    readme = (ROOT / "README.md").read_text()
    for verb in main.list_commands(None):  # type: ignore[arg-type]
        if verb != "completion" and verb != "version":
            assert f"`underlay {verb}" in readme, f"README.md does not name underlay {verb}"


def test_readme_holds_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"^    python3 -m venv \.venv && .*underlay up$", readme, re.MULTILINE)
    assert re.search(r"^    python3 -m venv \.venv && .*pytest$", readme, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_in_the_docs_are_valid(page: Path, tmp_path: Path) -> None:
    for number, example in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(example)
        settings_file.load(file, {}, {})


def _check(page: str, text: str) -> None:
    path = ROOT / "docs/reference" / page
    if os.environ.get("REWRITE_DOCS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"docs/reference/{page} is out of date; REWRITE_DOCS=1 rewrites it"


def test_reference_of_settings() -> None:
    lines = [
        "# Settings",
        "",
        "Generated from `live/settings.py`. Flags come before the environment, the environment before the file, the file",
        "before these defaults; `underlay config show --origin` says where each value came from. Every setting can be",
        "given as an environment variable, with `__` between its parts: `UNDERLAY_PUBLIC__PORT=9000`.",
        "",
        *_section(Settings, ""),
    ]
    _check("settings.md", "\n".join(lines) + "\n")


def _section(section: type[BaseModel], prefix: str) -> list[str]:
    rows, below = [], []
    for name, field in section.model_fields.items():
        inner = field.annotation
        arguments = getattr(inner, "__args__", ())
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            below += _section(inner, f"{prefix}{name}.")
        elif arguments and isinstance(arguments[0], type) and issubclass(arguments[0], BaseModel):
            rows.append(f"| `{prefix}{name}` | one entry | {field.description} |")
            below += _section(arguments[0], f"{prefix}{name}[].")
        else:
            default = "" if field.is_required() else field.get_default(call_default_factory=True)
            rows.append(f"| `{prefix}{name}` | `{default}` | {field.description} |")
    title = f"## `{prefix.rstrip('.')}`" if prefix else "## Top level"
    about = (section.__doc__ or "").strip().splitlines()[0]
    return [title, "", about, "", "| setting | default | meaning |", "| --- | --- | --- |", *rows, "", *below]


def test_reference_of_fields() -> None:
    lines = [
        "# Request fields that are not honoured",
        "",
        "Generated from the dialects. Everything else in the vendors' request schemas is honoured. A field that cannot be",
        "honoured is a 400 that names it; a field listed as *ignored* is accepted, has no effect, and stands in the",
        "request's journey, as does any field that no vendor documents.",
        "",
    ]
    for title, module in (("OpenAI", openai), ("Anthropic", anthropic), ("Gemini", gemini)):
        lines += [f"## {title}", ""]
        for what, table in (("ignored", module.IGNORED), ("refused (400)", getattr(module, "REFUSED", {}))):
            if table:
                lines += [f"| {what} | why |", "| --- | --- |"]
                lines += [f"| `{name}` | {why} |" for name, why in sorted(table.items())] + [""]
    _check("fields.md", "\n".join(lines))
