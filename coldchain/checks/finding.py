"""Finding of `coldchain check`: the thing that was checked, its state, and what to do if it isn't good."""

import msgspec

from config.catalogue import Catalogue

say = Catalogue("coldchain.checks")


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked: `what` names it, `seen` is its state, `mend` says what to do if it isn't good."""

    what: str
    good: bool
    seen: str
    mend: str = ""

    def __str__(self) -> str:
        mark = say("finding.good" if self.good else "finding.bad")
        colon = say("finding.colon")
        return f"{mark}{self.what}{colon}{self.seen}" + (f"\n      → {self.mend}" if self.mend else "")


def good(what: str, seen: str) -> Finding:
    return Finding(what, good=True, seen=seen)


def bad(what: str, seen: str, mend: str) -> Finding:
    return Finding(what, good=False, seen=seen, mend=mend)
