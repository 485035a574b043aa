"""Acknowledgements (`down/ack`): which sequence numbers a gateway may delete from its spool."""

from collections.abc import Collection, Sequence

from core.wire.messages import Ack

MOST_RANGES = 200
"""Keeps an acknowledgement far below the largest message, however many gaps a spool has."""
MOST_READ = 1_000
"""Ranges of a life that are read beside those asked about, however many a faulty gateway has."""


def ack_of(ep: str, known: Sequence[tuple[int, int]], asked: Collection[int]) -> Ack:
    """Return the acknowledgement of ranges that are ascending and don't touch.

    If there are too many, ranges with a number that was just `asked` about go first. The others were acknowledged
    before, or will be when their batches come again.
    """
    upto = known[0][1] if known and known[0][0] == 1 else 0
    above = [span for span in known if span[0] > upto]
    if len(above) > MOST_RANGES:
        answered = [span for span in above if any(span[0] <= seq <= span[1] for seq in asked)][:MOST_RANGES]
        room = MOST_RANGES - len(answered)
        above = sorted({*answered, *(above[-room:] if room else ())})
    return Ack(ep, upto, above)
