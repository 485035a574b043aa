"""Sub-commands of `coldchain`, one module for each group; `coldchain.cli` puts them together.

Heavy packages are imported inside the sub-command that needs them: an edge box runs `coldchain gateway` without them.
The texts are in `text/`. The help and the output of every sub-command are in the language of the locale.
"""
