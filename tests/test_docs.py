"""The docs say what the code does: links lead somewhere, references are generated, examples are valid.

``REWRITE_DOCS=1`` rewrites the generated pages; look at the difference before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from underlay.cli import main
from underlay.dialects import anthropic, gemini, openai
from underlay.documents import shapes
from underlay.live import settings_file
from underlay.live.settings import Settings
from underlay.twin import scenario

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
    assert re.search(r"^    python3 -m venv \.venv && .*pytest -n 2$", readme, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_in_the_docs_are_valid(page: Path, tmp_path: Path) -> None:
    for number, example in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(example)
        if re.search(r"^crowds:", example, re.MULTILINE):
            scenario.read(file)
        else:
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


SCENARIO = """\
# Scenarios

Generated from `twin/scenario`. A scenario is one YAML file: a world, the models served in it, who asks, by which
policies, what befalls it. It is read as strictly as the settings, and everything wrong with it is told at once, with
line and column. Only `crowds` must be there; this is a whole one:

```yaml
duration: 10 min
world:
  regions:
    - {name: west, like: azure/westeurope}
models:
  - name: chat
    model: llama-3.1-70b
    parallelism: tp4
    replicas: 8
crowds:
  - arrivals: {rate_per_s: 20}
    prompt_tokens: {mean: 1000, cv: 1.5, high: 6000}
    output_tokens: {mean: 200}
```

Times are seconds, or have a unit: `500 ms`, `90 s`, `10 min`, `24 h`, `7 d`. Powers are watts, or have one: `700 W`,
`40 kW`, `20 MW`. A section that may be of several kinds says which in `kind`; a word alone is short for it
(`process: gamma`), and a number alone is short for a spread that is always the same (`output_tokens: 200`).

These scenarios come along, and are found by name: SHIPPED.

"""


def test_reference_of_scenarios() -> None:
    shipped = ", ".join(f"`{name}`" for name in scenario.shipped())
    lines = _tables(scenario.Scenario, (), {})
    _check("scenario.md", SCENARIO.replace("SHIPPED", shipped) + "\n".join(lines).rstrip() + "\n")


def _tables(section: type[BaseModel], steps: shapes.Steps, told: dict[type[BaseModel], str]) -> list[str]:
    """A table for a section, and for each one in it that was not told before."""
    place = ".".join("[]" if step == 0 else "*" if step == "*" else str(step) for step in steps).replace(
        ".[]", "[]"
    )
    told[section] = place
    kind = section.model_fields.get("kind")
    tagged = kind is not None and isinstance(kind.default, str)
    title = f"## `{place}`" + (f": {kind.default}" if tagged else "") if place else "## Top level"
    rows, below = [], []
    for name, field in section.model_fields.items():
        if name == "kind" and tagged:
            continue
        inner, inside = _sections_in(section, name)
        known = [told[kind] for kind in inside if kind in told]
        default = f"as `{known[0]}`" if known else _default(field, inside)
        rows.append(f"| `{name}` | {default} | {field.description or (inside[0].__doc__ or '').splitlines()[0]} |")
        for each in inside:
            if each not in told:
                below += _tables(each, (*steps, name, *inner), told)
    about = (section.__doc__ or "").strip().splitlines()[0]
    table = ["| setting | default | meaning |", "| --- | --- | --- |", *rows, ""] if rows else []
    return [title, "", about, "", *table, *below]


def _sections_in(section: type[BaseModel], name: str) -> tuple[shapes.Steps, list[type[BaseModel]]]:
    """The sections that may stand at a field: as they are, in a list, or by name."""
    for inner in ((), (0,), ("*",)):
        kinds = shapes.kinds(section, (name, *inner))
        found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if found:
            return inner, found
    return (), []


def _default(field: FieldInfo, inside: list[type[BaseModel]]) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if inside and value is not None:
        return "see below" if value else "none"
    if value is None or value in ("", (), {}):
        return "none"
    return f"`{value}`"


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
