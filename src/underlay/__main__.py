"""``python -m underlay`` is ``underlay``."""

from underlay.cli import main

main(prog_name="underlay")
