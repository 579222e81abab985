"""The command line: one verb per file, loaded when it is called.

The result goes to stdout and everything else to stderr; ``--json`` gives one object with ``schema_version``, and
then an error is an object ``{code, message, hint}`` on stderr. Exit codes are in ``underlay.cli._says``.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from underlay.cli import _says

#: Verb, and the first line of its help, kept here so that listing the verbs imports none of them.
VERBS = {
    "up": "Start a platform on this machine and keep it running.",
    "ask": "Ask one question and show what became of it.",
    "ps": "Show the running platform and its replicas.",
    "drain": "Take a replica out of service without losing a stream.",
    "journey": "Show what happened to a request, step by step.",
    "ledger": "Add up what was used, what it cost, and whose the joules were.",
    "keys": "Create, list, revoke and rotate keys.",
    "calibrate": "Measure an engine's steps and fit a profile for the twin.",
    "plan": "Plan how many accelerators of which kind to run where.",
    "twin": "Try plans, policies and outages on a modelled world.",
    "config": "Check, show and describe the settings.",
    "doctor": "Check that everything needed is in place.",
    "version": "Show the versions of Underlay and its engines.",
    "completion": "Print a completion script for a shell.",
}


class _Verbs(click.Group):
    """The group of all verbs; also the one place where errors become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        found = importlib.import_module(f"underlay.cli.{cmd_name}").command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            raise click.UsageError(
                f"no verb '{args[0]}'" + (f"; did you mean '{near[0]}'?" if near else ""), ctx=ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002
        **extra: Any,
    ) -> NoReturn:
        """Run and exit; ``standalone_mode`` is ignored, there is no other mode."""
        arguments = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in arguments
        try:
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except Exception as error:
            failure = _says.failure_of(error)
            if failure is None:
                raise
            _says.fail(failure, as_json=as_json)
            code = failure.exit_code
        sys.exit(code or 0)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="VERB …",
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(None, "--version", package_name="underlay", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Run the infrastructure under an AI answer: models, gateway, ledger and console.

    \b
    Examples:
      underlay up
      underlay ask "What is the capital of France?"
      underlay ps --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
