"""What a gateway says, as topic and bytes: batches, birth, state, health."""

from typing import Literal

import msgspec

from core.runtime.clock import Clock
from core.wire.messages import Birth, BusHealth, ClockReport, Health, ProbeInfo, Ranges, State
from core.wire.topics import GatewayNumber, Kind, Topic
from gateway_agent.spool import Spool, Spooled
from gateway_agent.trust import Trust

RETAINED = (Kind.BIRTH, Kind.STATE)


class Identity(msgspec.Struct, frozen=True):
    """What a gateway is in this process."""

    number: GatewayNumber
    boot: str
    """Eight random hex digits of this process start."""
    firmware: str
    config: str
    """Hash of what it was told to read."""
    probes: list[ProbeInfo]


class _BatchOfSpool(msgspec.Struct, frozen=True):
    """A `Batch` whose readings go out byte for byte as they are in the spool.

    They aren't read again: a row that no longer could be, rotten or of a newer version, would keep all behind it. Who
    receives it withholds what can't be read, reading by reading.
    """

    v: Literal[1]
    gw: str
    ep: str
    boot: str
    seq: int
    sent: int
    clk: ClockReport
    r: msgspec.Raw
    lost: Ranges


class Voice:
    """Writes the messages of one gateway; `sent` and `clk` are stamped as each is written."""

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self.identity = identity
        self._clock = clock
        self._trust = Trust(clock)

    def topic(self, kind: Kind) -> str:
        """Return the topic of a kind of message."""
        return str(Topic(self.identity.number, kind))

    def batch(self, spool: Spool, row: Spooled, lost: Ranges) -> bytes:
        """Write a batch with its frozen part as it is in the spool."""
        clk = self._trust.report()
        if row.boot != self.identity.boot:  # how far another process's clock was off is not known here
            clk = msgspec.structs.replace(clk, off=None)
        return msgspec.json.encode(
            _BatchOfSpool(
                v=1,
                gw=self.identity.number,
                ep=spool.ep,
                boot=row.boot,
                seq=row.seq,
                sent=self._clock.now(),
                clk=clk,
                r=msgspec.Raw(row.r),
                lost=lost,
            )
        )

    def birth(self, spool: Spool) -> bytes:
        """Write what the gateway is, and how far its spool has counted."""
        me = self.identity
        return msgspec.json.encode(
            Birth(
                v=1,
                gw=me.number,
                ep=spool.ep,
                boot=me.boot,
                sent=self._clock.now(),
                firmware=me.firmware,
                config=me.config,
                probes=me.probes,
                seq=spool.seq,
            )
        )

    def state(self, state: Literal["online", "offline"]) -> bytes:
        """Write whether it is there."""
        return msgspec.json.encode(State(v=1, gw=self.identity.number, state=state, boot=self.identity.boot))

    def health(self, depth: int, size: int, buses: list[BusHealth]) -> bytes:
        """Write how the box is; it has no sensors for mains, battery and signal of its own."""
        return msgspec.json.encode(
            Health(
                v=1,
                gw=self.identity.number,
                boot=self.identity.boot,
                sent=self._clock.now(),
                clk=self._trust.report(),
                spool=depth,
                spool_bytes=size,
                buses=buses,
            )
        )
