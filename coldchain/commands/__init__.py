"""Sub-commands of `coldchain`, a module for each group; `coldchain.cli` puts them together.

Heavy packages are imported inside the sub-command that needs them: an edge box runs `coldchain gateway` without them.
The texts are in `text/`; `--help` and all that a sub-command prints follow the locale.
"""
