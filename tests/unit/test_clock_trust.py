from pathlib import Path

import msgspec

from core.runtime.instant import HOUR, Instant
from core.wire.messages import Batch, Reading
from core.wire.shards import GatewayNumber
from gateway_agent.clock_trust import ClockTrust
from gateway_agent.message_encoder import GatewayIdentity, MessageEncoder
from gateway_agent.spool import Spool

SET = Instant(1_774_632_960_000)


class Box:
    """A clock that can be set, beside one that never jumps."""

    def __init__(self, wall: int) -> None:
        self.wall = wall
        self.up = 60_000

    def now(self) -> Instant:
        return Instant(self.wall)

    def pause(self, _until: Instant) -> float:
        return 0.0

    def passes(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.up += milliseconds


def test_once_the_clock_is_set_it_is_known_when_the_earlier_readings_were_taken() -> None:
    box = Box(5_000)
    trust = ClockTrust(box, lambda: box.up)
    read_at = box.now()
    box.passes(HOUR)
    assert (trust.report().src, trust.report().off) == ("none", None)
    box.wall = SET
    box.passes(HOUR)
    off = trust.report().off
    assert off is not None
    assert read_at + off == SET - HOUR


def test_of_a_clock_that_was_set_from_the_start_there_is_no_offset_whatever_corrects_it() -> None:
    box = Box(SET)
    trust = ClockTrust(box, lambda: box.up)
    box.passes(HOUR)
    box.wall += 12
    assert trust.report().off is None


def test_an_offset_is_for_this_processs_readings_alone(tmp_path: Path) -> None:
    box = Box(5_000)
    voice = MessageEncoder(GatewayIdentity(GatewayNumber("10001"), "7f3a9c21", "0", "0", []), box)
    spool = Spool(tmp_path / "s.db", limit_bytes=2**20, limit_age=HOUR)
    reading = Reading(p="208601", ts=5_000, t=4.2, q=32)
    (before,) = spool.append([reading], boot="00000000", at=box.now())
    (now,) = spool.append([reading], boot="7f3a9c21", at=box.now())
    box.wall = SET
    said = [msgspec.json.decode(voice.batch(spool, row, []), type=Batch).clk.off for row in (before, now)]
    spool.close()
    assert said[0] is None
    assert said[1] is not None
