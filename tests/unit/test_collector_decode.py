"""Whatever bytes come in, a message or a reason goes out."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.decode import Envelope, Unreadable, decode
from core.wire.messages import LARGEST_MESSAGE, Batch, Birth, Health, State
from core.wire.topics import GatewayNumber, Kind, Topic

GW = GatewayNumber("10001")
DATA = str(Topic(GW, Kind.DATA))
EP = "9f3c02d1a47be865"


def body(**changes: Any) -> bytes:
    whole = {
        "v": 1,
        "gw": "10001",
        "ep": EP,
        "boot": "7f3a9c21",
        "seq": 7,
        "sent": 1_774_632_960_350,
        "clk": {"src": "ntp", "off": 12, "up": 8640012},
        "r": [{"p": "208601", "ts": 1_774_632_960_017, "t": 4.21, "q": 0}],
    } | changes
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def test_a_batch_is_read_and_unknown_fields_are_ignored() -> None:
    topic, heard = decode(DATA, body(colour="blue"))
    assert topic == Topic(GW, Kind.DATA)
    assert isinstance(heard, Batch)
    assert (heard.seq, heard.r[0].t) == (7, 4.21)


def test_each_kind_of_message_is_read_as_what_it_is() -> None:
    birth = {
        "v": 1,
        "gw": "10001",
        "ep": EP,
        "boot": "7f3a9c21",
        "sent": 1,
        "firmware": "1",
        "config": "",
        "probes": [],
    }
    state = {"v": 1, "gw": "10001", "state": "offline", "boot": "7f3a9c21"}
    health = {"v": 1, "gw": "10001", "boot": "7f3a9c21", "sent": 1, "clk": {"src": "rtc"}, "spool": 0, "spool_bytes": 0}
    kinds: list[tuple[Kind, dict[str, Any], type]] = [
        (Kind.BIRTH, birth, Birth),
        (Kind.STATE, state, State),
        (Kind.HEALTH, health, Health),
    ]
    for kind, message, expected in kinds:
        assert isinstance(decode(str(Topic(GW, kind)), json.dumps(message).encode())[1], expected)


@pytest.mark.parametrize(
    ("topic", "payload", "named"),
    [
        ("cc/v2/00/10001/up/data", body(), "cc/v2/00/10001/up/data"),
        ("cc/v1/00/10001/up/data", body(), "shard of gateway 10001 is"),
        (DATA.replace("10001", "1/0001"), body(), "not cc/v1"),
        (str(Topic(GW, Kind.DATA)) + "x", body(), "up/datax"),
        (str(Topic(GW, Kind.ACK)), body(), "not what they say"),
        (str(Topic(GatewayNumber("10002"), Kind.DATA)), body(), "gw: the topic says 10002, the message '10001'"),
        (DATA, body(seq=...), "seq"),
        (DATA, body(seq=0), "$.seq"),
        (DATA, body(v=2), "$.v"),
        (DATA, body(r=[]), "$.r"),
        (DATA, body(r=[{"p": "a", "ts": 1}] * 501), "$.r"),
        (DATA, body(r=[{"p": "a", "ts": 1}, {"p": "b", "ts": "now"}]), "$.r[1].ts"),
        (DATA, body(r=[{"p": "a", "ts": 1, "t": "4.2"}]), "$.r[0].t"),
        (DATA, body(r=[{"p": "a", "ts": 1, "q": 256}]), "$.r[0].q"),
        (DATA, body(r=[{"p": "a", "ts": 1, "k": "pressure", "v": 1}]), "$.r[0].k"),
        (DATA, body(ep="xyz"), "$.ep"),
        (DATA, body(padding="x" * LARGEST_MESSAGE), "the largest message has 65536"),
        (DATA, b"", "truncated"),
        (DATA, b"\xff\xfe", "malformed"),
        (DATA, b"[" * 60_000, ""),
        (DATA, b'{"v":1,"gw":' + b"[" * 60_000, ""),
        (DATA, body().replace(b"4.21", b"NaN"), "malformed"),
    ],
)
def test_what_cannot_be_read_names_the_level_or_field(topic: str, payload: bytes, named: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(topic, payload)
    assert named in str(caught.value)
    assert str(caught.value)


def test_the_envelope_of_an_unreadable_batch_is_kept_where_it_can_be_trusted() -> None:
    def envelope(payload: bytes, topic: str = DATA) -> Envelope | None:
        with pytest.raises(Unreadable) as caught:
            decode(topic, payload)
        return caught.value.envelope

    assert envelope(body(r=[{"p": "a"}])) == Envelope(GW, EP, 7)
    assert envelope(body(padding="x" * LARGEST_MESSAGE)) == Envelope(GW, EP, 7)
    assert envelope(body(gw="10002")) is None
    assert envelope(body(r=[], gw="10002")) is None
    assert envelope(body(r=[], v=2)) is None
    assert envelope(body(r=[], seq=2**60)) is None
    assert envelope(body(r=[], ep="../../etc/passwd")) is None
    assert envelope(b"{") is None
    assert envelope(body(), str(Topic(GW, Kind.BIRTH))) is None


TOPICS = st.one_of(st.sampled_from([DATA, *(str(Topic(GW, kind)) for kind in Kind)]), st.text())
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just(EP)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@given(TOPICS, st.binary(max_size=200))
@example(DATA, b"[" * 20_000)
def test_any_bytes_end_as_a_message_or_a_reason(topic: str, payload: bytes) -> None:
    with suppress(Unreadable):
        decode(topic, payload)


@given(TOPICS, st.dictionaries(st.sampled_from(["v", "gw", "ep", "boot", "seq", "sent", "clk", "r", "lost"]), ODD))
def test_any_json_ends_as_a_message_or_a_reason(topic: str, changes: dict[str, Any]) -> None:
    with suppress(Unreadable):
        decode(topic, body(**changes))
