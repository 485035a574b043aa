"""Decoder of gateway messages: bytes and a topic become a message of the wire contract, or a reason why not.

Whatever comes in, nothing but `UnreadableMessage` is raised. A good message takes one strict decoding. If that refuses
a batch, each part is read by itself: its envelope (which number of which spool), its other fields, its readings. So
only the unreadable readings are withheld, and every message with an envelope can be answered: an unanswered message is
sent again for ever. Tried by tests/integration/test_wire_fuzz.py.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from collector.receiving import tolerant_json
from core.intake.port import IN_PARTS
from core.intake.states import QuarantineReason
from core.wire.messages import (
    LARGEST_MESSAGE,
    Batch,
    Birth,
    Boot,
    ClockReport,
    Ep,
    GatewayHealth,
    GatewayState,
    Reading,
    Seq,
    SeqRanges,
    Time,
    frozen_hash,
)
from core.wire.shards import GatewayNumber
from core.wire.topics import MessageKind, Topic, WrongTopic, parse_topic

T = TypeVar("T")
DecodedPayload = Batch | Birth | GatewayState | GatewayHealth

MOST_WITHHELD = 100
"""Unreadable readings that are withheld individually; beyond that the rest of the message is refused in one piece."""
_KEPT_BYTES = 4_096
"""Bytes that are kept of an unreadable reading."""

_DECODERS: dict[MessageKind, msgspec.json.Decoder[DecodedPayload]] = {
    MessageKind.DATA: msgspec.json.Decoder(Batch),
    MessageKind.BACKFILL: msgspec.json.Decoder(Batch),
    MessageKind.BIRTH: msgspec.json.Decoder(Birth),
    MessageKind.STATE: msgspec.json.Decoder(GatewayState),
    MessageKind.HEALTH: msgspec.json.Decoder(GatewayHealth),
}
_NUMBERED = (MessageKind.DATA, MessageKind.BACKFILL)
_FAILURES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Envelope(msgspec.Struct, frozen=True):
    """Identity of a batch: enough to acknowledge it to its sender though nobody can read it."""

    gw: GatewayNumber
    ep: str
    seq: int


class UnreadableMessage(Exception):
    """Error with the topic's level or the field that is wrong.

    With an `envelope` the batch can be acknowledged, so that its sender drops it: sent again and again it would block
    those behind it.
    """

    def __init__(self, reason: str, envelope: Envelope | None = None) -> None:
        super().__init__(reason)
        self.envelope = envelope


class UnreadableReading(msgspec.Struct, frozen=True):
    """Reading that can't be decoded, as received, with its index in the message."""

    place: int
    raw: bytes
    reason: QuarantineReason
    detail: str


class DecodedMessage(msgspec.Struct, frozen=True, gc=False):
    """Decoded message, or those parts of it that could be decoded."""

    topic: Topic
    heard: DecodedPayload
    hash: bytes = b""
    """Hash of a batch's frozen part."""
    places: Sequence[int] = ()
    """Indexes in the message of the readings of `heard`, set if others beside them couldn't be read."""
    aside: Sequence[UnreadableReading] = ()
    fault: str = ""
    """Fault outside the readings; the same for all messages of one faulty sender."""
    refused: str = ""
    """Refused part of the message that is stored nowhere else and must be kept with it."""


class _OfAnyKind(Reading, frozen=True):
    """Reading of a quantity that this version may not know."""

    k: str | None = None  # type: ignore[assignment]


_reading = msgspec.json.Decoder(Reading)
_of_any_kind = msgspec.json.Decoder(_OfAnyKind)


def decode(topic_text: str, payload: bytes) -> DecodedMessage:
    """Decode a message of `up/…`.

    Raises: UnreadableMessage.
    """
    try:
        topic = parse_topic(topic_text)
    except WrongTopic as error:
        raise UnreadableMessage(str(error)) from None
    decoder = _DECODERS.get(topic.kind)
    if decoder is None:
        msg = f"topic {topic_text!r} is what gateways are told, not what they say"
        raise UnreadableMessage(msg)
    if len(payload) > LARGEST_MESSAGE:
        msg = f"{len(payload)} bytes; the largest message has {LARGEST_MESSAGE}"
        raise UnreadableMessage(msg, _envelope(topic, tolerant_json.members(payload)[0]))
    try:
        decoded = decoder.decode(payload)
    except _FAILURES as error:
        return _in_parts(topic, payload, str(error) or type(error).__name__)
    if decoded.gw != topic.gw:
        raise _of_another(
            topic, decoded.gw, Envelope(topic.gw, decoded.ep, decoded.seq) if isinstance(decoded, Batch) else None
        )
    return DecodedMessage(topic, decoded, frozen_hash(decoded) if isinstance(decoded, Batch) else b"")


def _in_parts(topic: Topic, payload: bytes, reason: str) -> DecodedMessage:
    """Decode the readable parts of a message that the strict decoder refused for `reason`."""
    fields, fault = tolerant_json.members(payload)
    envelope = _envelope(topic, fields)
    version = _part(fields, "v", int, None)
    gw = _part(fields, "gw", str, None) or _part(fields, "gw", int, None)
    if gw is not None and str(gw) != topic.gw:
        raise _of_another(topic, str(gw), envelope)
    if version not in (None, 1):
        msg = f"v is {version}, and this coldchain reads 1: update it, or put the gateway's firmware back"
        raise UnreadableMessage(msg, envelope)
    if topic.kind is MessageKind.BIRTH:
        ep, seq = _part(fields, "ep", Ep, None), _part(fields, "seq", Seq, None)
        if ep is None or seq is None or version != 1:
            raise UnreadableMessage(reason)
        return DecodedMessage(topic, Birth(1, topic.gw, ep, "", 0, "", "", [], seq), fault=reason)
    array = tolerant_json.split(fields.get("r", b""), b"[") if fields.get("r", b"").startswith(b"[") else None
    if envelope is None or version != 1 or array is None or not array.parts:
        raise UnreadableMessage(reason, envelope)
    readings, places, aside = _readings(array.parts)
    faults = [fault, *(f"{name}: {why}" for name, expected in _FIELDS if (why := _why_not(fields, name, expected)))]
    if not aside or gw is None:
        faults.append(reason)  # the cause lies neither in the readings nor in a known field
    decoded = Batch(
        1,
        topic.gw,
        envelope.ep,
        _part(fields, "boot", Boot, ""),
        envelope.seq,
        _part(fields, "sent", Time, 0),
        _part(fields, "clk", ClockReport, _NO_CLOCK),
        readings,
        _ranges(fields.get("lost", b"")),
    )
    unlisted = len(aside) - MOST_WITHHELD
    return DecodedMessage(
        topic,
        decoded,
        _hash_of_parts(decoded, array.parts),
        places,
        aside[:MOST_WITHHELD],
        next(filter(None, faults), ""),
        f"{unlisted} more readings can't be read, the first of them {aside[MOST_WITHHELD].detail}"
        if unlisted > 0
        else "",
    )


_NO_CLOCK = ClockReport("none")
_FIELDS = (("boot", Boot), ("sent", Time), ("clk", ClockReport), ("lost", SeqRanges))
"""Fields of a batch beside its envelope and its readings. If one can't be read, the readings are good all the same."""


def _readings(parts: Sequence[bytes]) -> tuple[list[Reading], list[int], list[UnreadableReading]]:
    """Decode each part by itself; return the readings, their indexes, and the unreadable parts."""
    readings, places, unreadable = [], [], []
    for index, raw in enumerate(parts):
        try:
            readings.append(_reading.decode(raw))
        except _FAILURES as error:
            reason, detail = QuarantineReason.MALFORMED, str(error) or type(error).__name__
            try:
                detail = f"k {_of_any_kind.decode(raw).k!r} is not a quantity that this version knows"
                reason = QuarantineReason.UNSUPPORTED
            except _FAILURES:
                pass
            if len(raw) > _KEPT_BYTES:
                detail += f"; the first {_KEPT_BYTES} of its {len(raw)} bytes are kept"
            unreadable.append(UnreadableReading(index, raw[:_KEPT_BYTES], reason, f"r[{index}]: {detail}"))
        else:
            places.append(index)
    return readings, places, unreadable


def _ranges(raw: bytes) -> SeqRanges:
    """Decode those of the ranges that can be."""
    parts = tolerant_json.split(raw, b"[") if raw.startswith(b"[") else None
    spans = [_part({"": part}, "", tuple[int, int], None) for part in (parts.parts if parts else ())]
    return [span for span in spans if span is not None]


def _of_another(topic: Topic, gw: str, envelope: Envelope | None) -> UnreadableMessage:
    return UnreadableMessage(f"gw: the topic says {topic.gw}, the message {gw[:40]!r}", envelope)


def _envelope(topic: Topic, fields: dict[str, bytes]) -> Envelope | None:
    """Return the envelope of a batch; the sender is the one who may publish on the topic, whatever the message says."""
    ep, seq = _part(fields, "ep", Ep, None), _part(fields, "seq", Seq, None)
    return None if topic.kind not in _NUMBERED or ep is None or seq is None else Envelope(topic.gw, ep, seq)


def _part(fields: dict[str, bytes], name: str, expected: type[T], missing: T) -> T:
    """Return a field decoded, `missing` if it can't be."""
    try:
        return msgspec.json.decode(fields[name], type=expected)
    except (KeyError, *_FAILURES):
        return missing


def _why_not(fields: dict[str, bytes], name: str, expected: object) -> str:
    """Return why a field can't be decoded, empty when it can or may be missing."""
    if name == "lost" and name not in fields:
        return ""
    try:
        msgspec.json.decode(fields.get(name, b""), type=expected)
    except _FAILURES as error:
        return str(error) or type(error).__name__
    return ""


def _hash_of_parts(batch: Batch, parts: Sequence[bytes]) -> bytes:
    """Return the hash of a batch's frozen part, decoded in parts; only hashes of this kind can be compared."""
    head = msgspec.json.encode((batch.gw, batch.ep, batch.boot, batch.seq))
    return IN_PARTS + hashlib.sha256(b"\0".join((head, *parts))).digest()[:16]
