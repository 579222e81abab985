"""Options that the verbs which simulate share, and how settings are written on a command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

_Verb = TypeVar("_Verb", bound=Callable[..., Any])

Setting = tuple[str, str]

_KEY = r"[A-Za-z_][\w.\-]*"


def setting(value: str) -> Setting:
    """``policies.routing=random`` as a pair."""
    match = re.fullmatch(rf"({_KEY})=(.*)", value.strip(), re.DOTALL)
    if match is None:
        raise click.BadParameter(f"'{value}' is not a setting such as policies.routing=random")
    return match[1], match[2]


def settings(value: str) -> tuple[Setting, ...]:
    """``a.b=1,c=2`` as pairs; a comma that no other setting follows belongs to the value."""
    return tuple(setting(part) for part in re.split(rf",\s*(?={_KEY}=)", value))


def choices(value: str) -> tuple[str, tuple[str, ...]]:
    """``policies.routing=sticky,random`` as a setting and its values; commas within brackets do not part them."""
    key, rest = setting(value)
    parts, depth, begun = [], 0, 0
    for place, sign in enumerate(rest):
        depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and not depth:
            parts.append(rest[begun:place])
            begun = place + 1
    values = [part.strip() for part in (*parts, rest[begun:])]
    if not all(values):
        raise click.BadParameter(f"'{value}' has an empty value; write {key}=VALUE,VALUE")
    return key, tuple(values)


def span_s(text: str, option: str) -> float:
    """``90s``, ``10min`` or ``24h`` in seconds."""
    import pydantic

    from underlay.twin.scenario.values import Moment

    try:
        return pydantic.TypeAdapter(Moment).validate_python(text)
    except pydantic.ValidationError:
        raise click.UsageError(f"{option}: '{text}' is no length of time such as 90s, 10min or 24h") from None


def converted(
    convert: Callable[[str], Any],
) -> Callable[[click.Context, click.Parameter, Sequence[str]], list[Any]]:
    """A callback that converts every value of a repeated option."""

    def callback(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[Any]:  # noqa: ARG001
        return [convert(value) for value in values]

    return callback


def simulation_options(seeds: int) -> Callable[[_Verb], _Verb]:
    """Add what every verb that simulates scenarios takes; ``seeds`` is how many there are by default."""
    return _added(
        [
            click.option(
                "--seed", type=click.IntRange(min=0), metavar="N", help="The first seed.  [default: the scenario's]"
            ),
            _seeds(seeds),
            changes_option("Change a setting of the scenario, such as policies.routing=random; repeatable."),
            click.option(
                "--for", "duration", metavar="SPAN",
                help="Simulate so long, such as 90s, 10min or 24h.  [default: the scenario's]",
            ),
            *_about_runs(),
        ]
    )  # fmt: skip


def recorded_options(seeds: int) -> Callable[[_Verb], _Verb]:
    """The same for what is simulated from a journal, which has neither a seed nor a length to be set."""
    return _added([_seeds(seeds), *_about_runs()])


def changes_option(about: str) -> Callable[[_Verb], _Verb]:
    """Add ``--set``."""
    return click.option(
        "--set", "changes", multiple=True, metavar="SETTING=VALUE", callback=converted(setting), help=about
    )


def variants_option(about: str) -> Callable[[_Verb], _Verb]:
    """Add ``--with``."""
    return click.option(
        "--with", "others", multiple=True, metavar="SETTING=VALUE[,…]", callback=converted(settings), help=about
    )


def _seeds(seeds: int) -> Callable[[_Verb], _Verb]:
    return click.option(
        "--seeds", type=click.IntRange(1, 1000), default=seeds, show_default=True, metavar="N",
        help="How many seeds; from 2 on, figures have 95 % intervals.",
    )  # fmt: skip


def _about_runs() -> list[Callable[[_Verb], _Verb]]:
    return [
        click.option(
            "--report", type=click.Path(path_type=Path), metavar="FILE.html",
            help="Where the report goes.  [default: NAME-report.html, here]",
        ),
        click.option("--no-report", is_flag=True, help="Write no report."),
        click.option(
            "--requests", type=click.Path(path_type=Path), metavar="FILE.csv|.parquet",
            help="Write a row for each request.",
        ),
        click.option(
            "--series", type=click.Path(path_type=Path), metavar="FILE.csv|.parquet",
            help="Write the samples over time.",
        ),
        click.option(
            "--jobs", type=click.IntRange(1, 1024), metavar="N",
            help="How many runs at a time.  [default: the cores]"
        ),
        click.option("--check", is_flag=True, help="Verify the whole state after everything that happens; slow."),
        click.option("--quiet", "-q", is_flag=True, help="Show no progress."),
    ]  # fmt: skip


def _added(options: Sequence[Callable[[_Verb], _Verb]]) -> Callable[[_Verb], _Verb]:
    def add(verb: _Verb) -> _Verb:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return add
