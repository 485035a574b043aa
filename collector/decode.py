"""What did a gateway say? Bytes and a topic become a message of the wire contract, or a reason why not.

Whatever comes in, nothing but `Unreadable` goes out.
"""

import msgspec

from core.wire.messages import LARGEST_MESSAGE, Batch, Birth, Health, State
from core.wire.topics import GatewayNumber, Kind, Topic, WrongTopic, parse

Heard = Batch | Birth | State | Health

_DECODERS: dict[Kind, msgspec.json.Decoder[Heard]] = {
    Kind.DATA: msgspec.json.Decoder(Batch),
    Kind.BACKFILL: msgspec.json.Decoder(Batch),
    Kind.BIRTH: msgspec.json.Decoder(Birth),
    Kind.STATE: msgspec.json.Decoder(State),
    Kind.HEALTH: msgspec.json.Decoder(Health),
}


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


class _Outside(msgspec.Struct, frozen=True):
    v: int
    gw: str
    ep: str
    seq: int


_outside = msgspec.json.Decoder(_Outside)
_EP_DIGITS = 16
_LAST_SEQ = 2**53


def decode(topic_text: str, payload: bytes) -> tuple[Topic, Heard]:
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
        raise Unreadable(msg, _envelope(topic, payload))
    try:
        heard = decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error) or type(error).__name__, _envelope(topic, payload)) from None
    if heard.gw != topic.gw:
        msg = f"gw: the topic says {topic.gw}, the message {heard.gw[:40]!r}"
        raise Unreadable(msg)
    return topic, heard


def _envelope(topic: Topic, payload: bytes) -> Envelope | None:
    """Return the envelope of a batch that can't be read, unless that can't be trusted either."""
    if topic.kind not in (Kind.DATA, Kind.BACKFILL):
        return None
    try:
        outside = _outside.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    hexadecimal = len(outside.ep) == _EP_DIGITS and set(outside.ep) <= set("0123456789abcdef")
    if outside.gw != topic.gw or outside.v != 1 or not hexadecimal or not 1 <= outside.seq <= _LAST_SEQ:
        return None
    return Envelope(topic.gw, outside.ep, outside.seq)
