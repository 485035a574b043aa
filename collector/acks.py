"""What is a gateway told that its spool may let go of?"""

from collections.abc import Collection, Sequence

from core.wire.messages import Ack

MOST_RANGES = 200
"""Keeps an acknowledgement far below the largest message, whatever holes a spool has."""
MOST_READ = 1_000
"""Ranges of a life that are looked at beside those asked about, however many a box in error has."""


def ack_of(ep: str, have: Sequence[tuple[int, int]], asked: Collection[int]) -> Ack:
    """Return the acknowledgement of ranges that are ascending and don't touch.

    When there are too many, those that hold a number just `asked` about go first: the others were told before, or will
    be when their batches come again.
    """
    upto = have[0][1] if have and have[0][0] == 1 else 0
    above = [span for span in have if span[0] > upto]
    if len(above) > MOST_RANGES:
        wanted = [span for span in above if any(span[0] <= seq <= span[1] for seq in asked)][:MOST_RANGES]
        room = MOST_RANGES - len(wanted)
        above = sorted({*wanted, *(above[-room:] if room else ())})
    return Ack(ep, upto, above)
