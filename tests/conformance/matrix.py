"""The pass matrix as the documentation publishes it. ``scripts/conformance`` runs everything and writes it."""

from __future__ import annotations

import ast
import sys
import tempfile
from pathlib import Path

from tests.conformance.running import NOT_APPLICABLE, PYTHONS, ROOT, SUITE, Run, available, run_real, run_scripted

PAGE = ROOT / "docs" / "reference" / "conformance.md"
BEGIN, END = "<!-- matrix: written by scripts/conformance -->", "<!-- end of matrix -->"
FILES = {"openai": "test_openai.py", "anthropic": "test_anthropic.py", "gemini": "test_gemini.py",
         "all": "test_real_engine.py"}  # fmt: skip
HEADINGS = {
    "openai": "OpenAI's client",
    "anthropic": "Anthropic's client",
    "gemini": "Google's client",
    "all": "All three against the bundled model",
}
MODES = ("sync", "async")


def cases(file: str) -> dict[str, str]:
    """The cases of one file of the suite, in its order: function and title."""
    tree = ast.parse((SUITE / file).read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
            title = ast.get_docstring(node)
            assert title, f"{file}: {node.name} has no title"
            found[node.name] = title
    return found


def check(run: Run) -> None:
    """Every case ran, both ways, and none failed."""
    assert not run.failures, f"{run.version}\n\n" + "\n\n".join(run.failures)
    missing = {(name, mode) for name in cases(FILES[run.sdk]) for mode in MODES} - run.outcomes.keys()
    assert not missing, f"{run.version}: {missing} did not run"


def section(sdk: str, runs: list[Run]) -> str:
    """One SDK's table."""
    heads = [f"{run.version}, {mode}" for run in runs for mode in MODES]
    lines = [f"## {HEADINGS[sdk]}", "", f"| case | {' | '.join(heads)} |", "|---|" + ":-:|" * len(heads)]
    for name, title in cases(FILES[sdk]).items():
        marks = [run.outcomes.get((name, mode), NOT_APPLICABLE) for run in runs for mode in MODES]
        lines.append(f"| {title} | {' | '.join(marks)} |")
    return "\n".join(lines)


def matrix(runs: list[Run]) -> str:
    """All tables."""
    parts = [section(sdk, [run for run in runs if run.sdk == sdk]) for sdk in FILES]
    return "\n\n".join([BEGIN, *parts, END])


def published() -> str:
    """The tables as they stand in the documentation."""
    page = PAGE.read_text(encoding="utf-8")
    return page[page.index(BEGIN) : page.index(END)]


def main() -> int:
    """Run the suite under both majors and write the matrix; returns 1 if a case fails."""
    majors = tuple(major for major in reversed(PYTHONS) if available(major))
    with tempfile.TemporaryDirectory() as folder:
        runs = run_scripted(Path(folder) / "scripted", majors) + run_real(Path(folder) / "real", majors)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(BEGIN)], page[page.index(END) + len(END) :]
    PAGE.write_text(before + matrix(runs) + after, encoding="utf-8")
    failures = [f"{run.version}: {failure}" for run in runs for failure in run.failures]
    sys.stdout.write("\n".join([*failures, f"{len(failures)} failures; wrote {PAGE.relative_to(ROOT)}"]) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
