"""`python -m coldchain` is the command `coldchain`; the supervisor starts its children so."""

from coldchain.cli import main

main()
