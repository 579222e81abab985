"""``underlay completion``: what a shell needs to complete verbs and options."""

from __future__ import annotations

import click

from underlay.cli import _says


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script for a shell.

    \b
    Examples:
      eval "$(underlay completion bash)"
      underlay completion zsh > ~/.zfunc/_underlay
      underlay completion fish > ~/.config/fish/completions/underlay.fish
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    from click.shell_completion import get_completion_class

    from underlay.cli import main

    found = get_completion_class(shell)
    assert found is not None
    script = found(main, {}, "underlay", "_UNDERLAY_COMPLETE")
    # Not script.source(): for bash that asks the shell for its version first, and warns where there is none.
    _says.result(script.source_template % script.source_vars())
