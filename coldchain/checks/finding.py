"""Finding of `coldchain check`: the thing that was checked, its state, and what to do if it isn't good."""

import msgspec

from config.catalogue import Catalogue

say = Catalogue("coldchain.checks")


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked: `what` names it, `state` is how it is, `mend` says what to do if it isn't good."""

    what: str
    good: bool
    state: str
    mend: str = ""

    def __str__(self) -> str:
        mark = say("finding.good" if self.good else "finding.bad")
        colon = say("finding.colon")
        return f"{mark}{self.what}{colon}{self.state}" + (f"\n      → {self.mend}" if self.mend else "")


def good(what: str, state: str) -> Finding:
    return Finding(what, good=True, state=state)


def bad(what: str, state: str, mend: str) -> Finding:
    return Finding(what, good=False, state=state, mend=mend)
