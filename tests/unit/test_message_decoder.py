"""Whatever bytes come in, a message or a reason goes out."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.receiving.message_decoder import MOST_WITHHELD, DecodedMessage, Envelope, UnreadableMessage, decode
from core.intake.port import IN_PARTS
from core.wire.messages import LARGEST_MESSAGE, Batch, Birth, GatewayHealth, GatewayState, Reading
from core.wire.shards import GatewayNumber
from core.wire.topics import MessageKind, Topic

GW = GatewayNumber("10001")
DATA = str(Topic(GW, MessageKind.DATA))
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
    message = decode(DATA, body(colour="blue"))
    assert message.topic == Topic(GW, MessageKind.DATA)
    heard = message.heard
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
    kinds: list[tuple[MessageKind, dict[str, Any], type]] = [
        (MessageKind.BIRTH, birth, Birth),
        (MessageKind.STATE, state, GatewayState),
        (MessageKind.HEALTH, health, GatewayHealth),
    ]
    for kind, message, expected in kinds:
        assert isinstance(decode(str(Topic(GW, kind)), json.dumps(message).encode()).heard, expected)


@pytest.mark.parametrize(
    ("topic", "payload", "named"),
    [
        ("cc/v2/00/10001/up/data", body(), "cc/v2/00/10001/up/data"),
        ("cc/v1/00/10001/up/data", body(), "shard of gateway 10001 is"),
        (DATA.replace("10001", "1/0001"), body(), "not cc/v1"),
        (str(Topic(GW, MessageKind.DATA)) + "x", body(), "up/datax"),
        (str(Topic(GW, MessageKind.ACK)), body(), "not what they say"),
        (str(Topic(GatewayNumber("10002"), MessageKind.DATA)), body(), "gw: the topic says 10002, the message '10001'"),
        (DATA, body(seq=...), "seq"),
        (DATA, body(seq=0), "$.seq"),
        (DATA, body(v=2), "v is 2"),
        (DATA, body(v="1"), "$.v"),
        (DATA, body(r=[]), "$.r"),
        (DATA, body(r={}), "$.r"),
        (DATA, body(ep="xyz"), "$.ep"),
        (DATA, body(padding="x" * LARGEST_MESSAGE), "the largest message has 65536"),
        (DATA, b"", "truncated"),
        (DATA, b"\xff\xfe", "malformed"),
        (DATA, b"[" * 60_000, ""),
        (DATA, b'{"v":1,"gw":' + b"[" * 60_000, ""),
        (DATA, b'{"v":1,"gw":"' + b'\\"' * 30_000, ""),
    ],
)
def test_what_cannot_be_read_names_the_level_or_field(topic: str, payload: bytes, named: str) -> None:
    with pytest.raises(UnreadableMessage) as caught:
        decode(topic, payload)
    assert named in str(caught.value)
    assert str(caught.value)


def test_the_envelope_of_an_unreadable_batch_is_kept_where_it_can_be_trusted() -> None:
    def envelope(payload: bytes, topic: str = DATA) -> Envelope | None:
        with pytest.raises(UnreadableMessage) as caught:
            decode(topic, payload)
        return caught.value.envelope

    assert envelope(body(padding="x" * LARGEST_MESSAGE)) == Envelope(GW, EP, 7)
    assert envelope(body(padding="x" * LARGEST_MESSAGE)[:-1]) == Envelope(GW, EP, 7)
    assert envelope(body(gw="10002")) == Envelope(GW, EP, 7), "the sender is whoever may publish there"
    assert envelope(body(r=[], gw=10002)) == Envelope(GW, EP, 7)
    assert envelope(body(r=[], v=2)) == Envelope(GW, EP, 7)
    assert envelope(body(r=...)) == Envelope(GW, EP, 7)
    assert envelope(body(r=[], seq=2**60)) is None
    assert envelope(body(r=[], ep="../../etc/passwd")) is None
    assert envelope(b"{") is None
    assert envelope(body(v=2), str(Topic(GW, MessageKind.BIRTH))) is None
    digits_lost = b'{"v": 2, "ep": "9f3c02d1a47be865", "seq": 12'
    assert envelope(digits_lost) is None, "its number may go on"
    assert envelope(digits_lost + b", ") == Envelope(GW, EP, 12)


def test_a_message_of_another_version_is_refused_whole_and_says_which_and_what_to_do() -> None:
    """Shown in `coldchain status` beside its gateway, which has room for 100 characters."""
    state = json.dumps({"v": 2, "gw": GW, "state": "online", "boot": "7f3a9c21"}).encode()
    for topic, payload in (
        (DATA, body(v=2)),
        (str(Topic(GW, MessageKind.BIRTH)), body(v=2)),
        (str(Topic(GW, MessageKind.STATE)), state),
    ):
        with pytest.raises(UnreadableMessage) as caught:
            decode(topic, payload)
        assert str(caught.value) == (
            "v is 2, and this coldchain reads 1: update it, or put the gateway's firmware back"
        )


GOOD = {"p": "208601", "ts": 1_774_632_960_017, "t": 4.3}


def in_parts(payload: bytes) -> DecodedMessage:
    message = decode(DATA, payload)
    assert isinstance(message.heard, Batch)
    assert (message.heard.gw, message.heard.ep, message.heard.seq) == (GW, EP, 7)
    return message


def withheld(*bad: object) -> list[tuple[int, str, str]]:
    """What is withheld of a message with these readings between two good ones, which are taken in."""
    message = in_parts(body(r=[GOOD, *bad, GOOD | {"p": "208602"}]))
    assert isinstance(message.heard, Batch)
    assert [reading.p for reading in message.heard.r] == ["208601", "208602"]
    assert list(message.places) == [0, len(bad) + 1]
    assert (message.fault, message.refused) == ("", "")
    assert [json.loads(each.raw) for each in message.aside] == list(bad), "it is kept as it came"
    return [(each.place, each.reason, each.detail) for each in message.aside]


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"p": "208602", "ts": 1, "t": "5.2"}, "$.t"),
        ({"p": "208602", "ts": 1.5, "t": 5.2}, "$.ts"),
        ({"p": "208602", "ts": "yesterday", "t": 5.2}, "$.ts"),
        ({"p": "208602", "ts": -1, "t": 5.2}, "$.ts"),
        ({"p": "208602", "ts": 2**53 + 1, "t": 5.2}, "$.ts"),
        ({"p": "208602", "ts": 1, "t": 5.2, "q": 65_536}, "$.q"),
        ({"p": "208602", "ts": 1, "t": 5.2, "q": None}, "$.q"),
        ({"p": "", "ts": 1, "t": 5.2}, "$.p"),
        ({"p": 208602, "ts": 1, "t": 5.2}, "$.p"),
        ({"ts": 1, "t": 5.2}, "`p`"),
        ({"p": "208602", "ts": 1, "k": "co2", "v": "much"}, "$.k"),
        (None, "got `null`"),
        ([], "got `array`"),
        (4.2, "got `float`"),
    ],
)
def test_a_reading_that_cannot_be_read_is_withheld_alone(bad: object, named: str) -> None:
    ((place, reason, detail),) = withheld(bad)
    assert (place, reason, detail[:6]) == (1, "malformed", "r[1]: ")
    assert named in detail
    assert [each[:2] for each in withheld(bad, bad)] == [(1, "malformed"), (2, "malformed")]


def test_a_quantity_of_a_newer_agent_is_kept_aside_and_so_said() -> None:
    bad = {"p": "208601", "ts": 1, "k": "co2", "v": 412.0}
    assert withheld(bad) == [(1, "unsupported", "r[1]: k 'co2' is not a quantity that this version knows")]


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999", b"0x1F", b"4,2", b"+4.2", b"4.", b"'4.2'"])
def test_a_number_that_no_json_has_costs_its_reading_alone(number: bytes) -> None:
    good = json.dumps(GOOD).encode()
    message = in_parts(body(r=[GOOD, GOOD | {"t": 9.9}, GOOD]).replace(b"9.9", number))
    assert isinstance(message.heard, Batch)
    assert len(message.heard.r) + len(message.aside) >= 3
    assert next(each.raw for each in message.aside) in good.replace(b"4.3", number)
    assert message.places[0] == 0
    assert message.places[-1] == len(message.heard.r) + len(message.aside) - 1


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (body() + b"\0", "1 bytes stand behind the message"),
        (body() + b"\r\n\0\0\0", "3 bytes stand behind"),
        (body() + b"}", "1 bytes stand behind"),
        (b"\xef\xbb\xbf" + body(), "malformed"),
        (body(gw=10001), "$.gw"),
        (body(gw=...), "`gw`"),
        (body(boot="7"), "boot: "),
        (body(sent="now"), "sent: "),
        (body(clk={"src": "gps"}), "clk: Invalid enum value 'gps'"),
        (body(lost=[[1]]), "lost: "),
        (body(r=[GOOD] * 501), "length <= 500"),
    ],
)
def test_a_fault_beside_the_readings_costs_none_of_them(payload: bytes, fault: str) -> None:
    message = in_parts(payload)
    assert isinstance(message.heard, Batch)
    assert len(message.heard.r) in (1, 501)
    assert not message.aside
    assert fault in message.fault


def test_of_ranges_declared_lost_each_that_can_be_read_counts() -> None:
    message = in_parts(body(lost=[[1, 2], ["x", 3], [4, 4], 5, [6]]))
    assert isinstance(message.heard, Batch)
    assert message.heard.lost == [(1, 2), (4, 4)]
    assert message.fault.startswith("lost: ")


def test_what_is_cut_off_is_withheld_and_what_stands_before_it_taken_in() -> None:
    whole = body(r=[GOOD, GOOD | {"p": "208602"}, GOOD])
    for end in range(whole.index(b'"r": [') + 80, len(whole)):
        message = in_parts(whole[:end])
        assert isinstance(message.heard, Batch)
        assert message.fault == f"cut off at byte {end}"
        assert all(
            reading in [Reading("208601", 1_774_632_960_017, 4.3), Reading("208602", 1_774_632_960_017, 4.3)]
            for reading in message.heard.r
        )
        assert len(message.heard.r) + len(message.aside) in (2, 3)


def test_readings_beyond_the_number_that_are_withheld_are_refused_in_one_piece() -> None:
    message = in_parts(body(r=[GOOD, *[7] * (MOST_WITHHELD + 3)]))
    assert len(message.aside) == MOST_WITHHELD
    assert message.refused.startswith(f"3 more readings can't be read, the first of them r[{MOST_WITHHELD + 1}]: ")
    long = in_parts(body(r=[GOOD, {"p": "x" * 5_000}])).aside[0]
    assert len(long.raw) == 4_096
    assert long.detail.endswith("the first 4096 of its 5009 bytes are kept")


def test_what_was_read_in_parts_is_known_again_and_a_clone_of_it_told() -> None:
    bad = [GOOD, {"p": "a"}]
    assert in_parts(body(r=bad)).hash == in_parts(body(r=bad, sent=5, clk={"src": "none"})).hash
    assert in_parts(body(r=bad)).hash != in_parts(body(r=[*bad, GOOD])).hash
    assert in_parts(body(r=bad)).hash.startswith(IN_PARTS)
    assert not decode(DATA, body()).hash.startswith(IN_PARTS)


def test_a_birth_is_answered_whatever_it_says_of_its_probes() -> None:
    birth = {"v": 1, "gw": "10001", "ep": EP, "boot": "7f3a9c21", "sent": 1, "firmware": "1", "config": "", "seq": 9}
    message = decode(str(Topic(GW, MessageKind.BIRTH)), json.dumps(birth | {"probes": [{"p": 208601}]}).encode())
    assert isinstance(message.heard, Birth)
    assert (message.heard.ep, message.heard.seq) == (EP, 9)
    assert "$.probes[0].p" in message.fault


TOPICS = st.one_of(st.sampled_from([DATA, *(str(Topic(GW, kind)) for kind in MessageKind)]), st.text())
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just(EP)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@given(TOPICS, st.binary(max_size=200))
@example(DATA, b"[" * 20_000)
def test_any_bytes_end_as_a_message_or_a_reason(topic: str, payload: bytes) -> None:
    with suppress(UnreadableMessage):
        decode(topic, payload)


@given(TOPICS, st.dictionaries(st.sampled_from(["v", "gw", "ep", "boot", "seq", "sent", "clk", "r", "lost"]), ODD))
def test_any_json_ends_as_a_message_or_a_reason(topic: str, changes: dict[str, Any]) -> None:
    with suppress(UnreadableMessage):
        decode(topic, body(**changes))
