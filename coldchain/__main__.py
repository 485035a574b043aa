"""Entry point of `python -m coldchain`, by which the supervisor starts its children."""

from coldchain.cli import main

main()
