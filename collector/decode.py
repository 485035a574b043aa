"""Decoder of what gateways send: bytes and a topic become a message of the wire contract, or a reason why not.

Whatever comes in, nothing but `Unreadable` goes out. A good message takes one strict decoding. Of a batch that this
refuses, each part is read by itself: its envelope (which number of which spool), its other fields, its readings. So a
reading that can't be read is withheld alone, and whatever has an envelope can be answered: what isn't answered is sent
again for ever. Tried by tests/integration/test_wire_fuzz.py.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from collector import scan
from core.intake.port import IN_PARTS, MALFORMED, UNSUPPORTED
from core.wire.messages import (
    LARGEST_MESSAGE,
    Batch,
    Birth,
    Boot,
    ClockReport,
    Ep,
    Health,
    Ranges,
    Reading,
    Seq,
    State,
    Time,
    frozen_hash,
)
from core.wire.topics import GatewayNumber, Kind, Topic, WrongTopic, parse

T = TypeVar("T")
Heard = Batch | Birth | State | Health

MOST_WITHHELD = 100
"""Unreadable readings that are withheld each by itself; with more, the rest of the message is refused in one piece."""
_KEPT_BYTES = 4_096
"""Of a reading that can't be read."""

_DECODERS: dict[Kind, msgspec.json.Decoder[Heard]] = {
    Kind.DATA: msgspec.json.Decoder(Batch),
    Kind.BACKFILL: msgspec.json.Decoder(Batch),
    Kind.BIRTH: msgspec.json.Decoder(Birth),
    Kind.STATE: msgspec.json.Decoder(State),
    Kind.HEALTH: msgspec.json.Decoder(Health),
}
_NUMBERED = (Kind.DATA, Kind.BACKFILL)
_FAILURES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Envelope(msgspec.Struct, frozen=True):
    """What must be known of a batch to tell its sender that it has arrived, though nobody can read it."""

    gw: GatewayNumber
    ep: str
    seq: int


class Unreadable(Exception):
    """The text names the topic's level or the field that is wrong.

    With an `envelope` its sender can be told to let go of it: sent again and again it would block those behind it.
    """

    def __init__(self, reason: str, envelope: Envelope | None = None) -> None:
        super().__init__(reason)
        self.envelope = envelope


class Aside(msgspec.Struct, frozen=True):
    """A reading that can't be read, as it came, with its place in the message."""

    place: int
    raw: bytes
    reason: str
    detail: str


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message that was read, or those parts of it that could be."""

    topic: Topic
    heard: Heard
    hash: bytes = b""
    """Of the frozen part of a batch."""
    places: Sequence[int] = ()
    """Where the readings of `heard` stood in the message, where some beside them couldn't be read."""
    aside: Sequence[Aside] = ()
    fault: str = ""
    """What is wrong with the message beside its readings; the same for all messages of one faulty sender."""
    refused: str = ""
    """What of the message is found nowhere else and must be kept with it."""


class _OfAnyKind(Reading, frozen=True):
    """A reading of a quantity that this version may not know."""

    k: str | None = None  # type: ignore[assignment]


_reading = msgspec.json.Decoder(Reading)
_of_any_kind = msgspec.json.Decoder(_OfAnyKind)


def decode(topic_text: str, payload: bytes) -> Message:
    """Read a message of `up/…`.

    Raises: Unreadable.
    """
    try:
        topic = parse(topic_text)
    except WrongTopic as error:
        raise Unreadable(str(error)) from None
    decoder = _DECODERS.get(topic.kind)
    if decoder is None:
        msg = f"topic {topic_text!r} is what gateways are told, not what they say"
        raise Unreadable(msg)
    if len(payload) > LARGEST_MESSAGE:
        msg = f"{len(payload)} bytes; the largest message has {LARGEST_MESSAGE}"
        raise Unreadable(msg, _envelope(topic, scan.members(payload)[0]))
    try:
        heard = decoder.decode(payload)
    except _FAILURES as error:
        return _in_parts(topic, payload, str(error) or type(error).__name__)
    if heard.gw != topic.gw:
        raise _of_another(
            topic, heard.gw, Envelope(topic.gw, heard.ep, heard.seq) if isinstance(heard, Batch) else None
        )
    return Message(topic, heard, frozen_hash(heard) if isinstance(heard, Batch) else b"")


def _in_parts(topic: Topic, payload: bytes, reason: str) -> Message:
    """Read what can be read of a message that the strict decoder refuses, for this reason."""
    found, fault = scan.members(payload)
    envelope = _envelope(topic, found)
    version = _part(found, "v", int, None)
    gw = _part(found, "gw", str, None) or _part(found, "gw", int, None)
    if gw is not None and str(gw) != topic.gw:
        raise _of_another(topic, str(gw), envelope)
    if topic.kind is Kind.BIRTH:
        ep, seq = _part(found, "ep", Ep, None), _part(found, "seq", Seq, None)
        if ep is None or seq is None or version != 1:
            raise Unreadable(reason)
        return Message(topic, Birth(1, topic.gw, ep, "", 0, "", "", [], seq), fault=reason)
    array = scan.split(found.get("r", b""), b"[") if found.get("r", b"").startswith(b"[") else None
    if envelope is None or version != 1 or array is None or not array.parts:
        raise Unreadable(reason, envelope)
    readings, places, aside = _readings(array.parts)
    faults = [fault, *(f"{name}: {why}" for name, of in _FIELDS if (why := _why_not(found, name, of)))]
    if not aside or gw is None:
        faults.append(reason)  # of neither the readings nor what is known of the rest
    heard = Batch(
        1,
        topic.gw,
        envelope.ep,
        _part(found, "boot", Boot, ""),
        envelope.seq,
        _part(found, "sent", Time, 0),
        _part(found, "clk", ClockReport, _NO_CLOCK),
        readings,
        _ranges(found.get("lost", b"")),
    )
    more = len(aside) - MOST_WITHHELD
    return Message(
        topic,
        heard,
        _hash_of_parts(heard, array.parts),
        places,
        aside[:MOST_WITHHELD],
        next(filter(None, faults), ""),
        f"{more} more readings can't be read, the first of them {aside[MOST_WITHHELD].detail}" if more > 0 else "",
    )


_NO_CLOCK = ClockReport("none")
_FIELDS = (("boot", Boot), ("sent", Time), ("clk", ClockReport), ("lost", Ranges))
"""Of a batch beside its envelope and its readings. Where one can't be read, the readings are good all the same."""


def _readings(parts: Sequence[bytes]) -> tuple[list[Reading], list[int], list[Aside]]:
    """Read each by itself; return those that can be read, their places, and the others."""
    readings, places, aside = [], [], []
    for place, raw in enumerate(parts):
        try:
            readings.append(_reading.decode(raw))
        except _FAILURES as error:
            reason, why = MALFORMED, str(error) or type(error).__name__
            try:
                why = f"k {_of_any_kind.decode(raw).k!r} is not a quantity that this version knows"
                reason = UNSUPPORTED
            except _FAILURES:
                pass
            if len(raw) > _KEPT_BYTES:
                why += f"; the first {_KEPT_BYTES} of its {len(raw)} bytes are kept"
            aside.append(Aside(place, raw[:_KEPT_BYTES], reason, f"r[{place}]: {why}"))
        else:
            places.append(place)
    return readings, places, aside


def _ranges(raw: bytes) -> Ranges:
    """Read those of the ranges that can be."""
    parts = scan.split(raw, b"[") if raw.startswith(b"[") else None
    read = [_part({"": part}, "", tuple[int, int], None) for part in (parts.parts if parts else ())]
    return [one for one in read if one is not None]


def _of_another(topic: Topic, gw: str, envelope: Envelope | None) -> Unreadable:
    return Unreadable(f"gw: the topic says {topic.gw}, the message {gw[:40]!r}", envelope)


def _envelope(topic: Topic, found: dict[str, bytes]) -> Envelope | None:
    """Return the envelope of a batch; the sender is whoever may publish on the topic, whatever the message says."""
    ep, seq = _part(found, "ep", Ep, None), _part(found, "seq", Seq, None)
    return None if topic.kind not in _NUMBERED or ep is None or seq is None else Envelope(topic.gw, ep, seq)


def _part(found: dict[str, bytes], name: str, of: type[T], missing: T) -> T:
    """Return a field, `missing` where it can't be read."""
    try:
        return msgspec.json.decode(found[name], type=of)
    except (KeyError, *_FAILURES):
        return missing


def _why_not(found: dict[str, bytes], name: str, of: object) -> str:
    """Return why a field can't be read, empty when it can or may be missing."""
    if name == "lost" and name not in found:
        return ""
    try:
        msgspec.json.decode(found.get(name, b""), type=of)
    except _FAILURES as error:
        return str(error) or type(error).__name__
    return ""


def _hash_of_parts(batch: Batch, parts: Sequence[bytes]) -> bytes:
    """Hash what is frozen of a batch that was read in parts: comparable with another that was."""
    head = msgspec.json.encode((batch.gw, batch.ep, batch.boot, batch.seq))
    return IN_PARTS + hashlib.sha256(b"\0".join((head, *parts))).digest()[:16]
