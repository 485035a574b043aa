"""Messages of a gateway, as topic and bytes: batches, birth, state, health."""

from typing import Literal

import msgspec

from core.runtime.clock import Clock
from core.wire.messages import Birth, BusHealth, ClockReport, GatewayHealth, GatewayState, ProbeInfo, SeqRanges
from core.wire.shards import GatewayNumber
from core.wire.states import ConnectionState
from core.wire.topics import MessageKind, Topic
from gateway_agent.clock_trust import ClockTrust
from gateway_agent.spool import Spool, Spooled

RETAINED = (MessageKind.BIRTH, MessageKind.STATE)


class GatewayIdentity(msgspec.Struct, frozen=True):
    """Identity of a gateway in this process."""

    number: GatewayNumber
    boot: str
    """Eight random hex digits of this process start."""
    firmware: str
    config: str
    """Hash of its configuration."""
    probes: list[ProbeInfo]


class _BatchOfSpool(msgspec.Struct, frozen=True):
    """`Batch` whose readings are sent byte for byte as they are in the spool.

    They aren't decoded, since a row that can't be decoded, damaged or of a newer version, would block all rows after
    it. The collector sets aside what it can't read, reading by reading.
    """

    v: Literal[1]
    gw: str
    ep: str
    boot: str
    seq: int
    sent: int
    clk: ClockReport
    r: msgspec.Raw
    lost: SeqRanges


class MessageEncoder:
    """Encoder of the messages of one gateway; it sets `sent` and `clk` in each."""

    def __init__(self, identity: GatewayIdentity, clock: Clock) -> None:
        self.identity = identity
        self._clock = clock
        self._trust = ClockTrust(clock)

    def topic(self, kind: MessageKind) -> str:
        """Return the topic of a kind of message."""
        return str(Topic(self.identity.number, kind))

    def batch(self, spool: Spool, row: Spooled, lost: SeqRanges) -> bytes:
        """Encode a batch, with its fixed fields as they are in the spool."""
        clk = self._trust.report()
        if row.boot != self.identity.boot:  # the clock offset of another process is unknown here
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
        """Encode the identity of the gateway, with the last sequence number of its spool."""
        identity = self.identity
        return msgspec.json.encode(
            Birth(
                v=1,
                gw=identity.number,
                ep=spool.ep,
                boot=identity.boot,
                sent=self._clock.now(),
                firmware=identity.firmware,
                config=identity.config,
                probes=identity.probes,
                seq=spool.seq,
            )
        )

    def state(self, state: ConnectionState) -> bytes:
        """Encode whether the gateway is online."""
        return msgspec.json.encode(GatewayState(v=1, gw=self.identity.number, state=state, boot=self.identity.boot))

    def health(self, depth: int, size: int, buses: list[BusHealth]) -> bytes:
        """Encode the health of the box; without mains, battery and signal, for which it has no sensors."""
        return msgspec.json.encode(
            GatewayHealth(
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
