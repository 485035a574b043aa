from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coldchain.simulate.modbus import crc16
from gateway_agent.reply_finder import ReplyFinder


def rtu(*body: int) -> bytes:
    return bytes(body) + crc16(bytes(body))


def tcp(transaction: int, *body: int) -> bytes:
    return transaction.to_bytes(2, "big") + bytes(2) + len(body).to_bytes(2, "big") + bytes(body)


ASKED = rtu(7, 4, 0, 1, 0, 2)
ANSWER = rtu(7, 4, 4, 0x00, 0x2A, 0x02, 0x22)
REFUSAL = rtu(7, 0x84, 2)
ASKED_TCP = tcp(258, 7, 4, 0, 1, 0, 2)
ANSWER_TCP = tcp(258, 7, 4, 4, 0x00, 0x2A, 0x02, 0x22)
REFUSAL_TCP = tcp(258, 7, 0x84, 11)
CUTS = st.lists(st.integers(0, 200))
"""Where a line cuts its stream into pieces."""


def after(request: bytes, *pieces: bytes, over_tcp: bool = False) -> tuple[ReplyFinder, bytes]:
    """Hand a request and what comes for it to a finder, piece by piece as a line does."""
    finder = ReplyFinder(tcp=over_tcp)
    assert finder.trace(True, request) == request
    heard = b""
    for piece in pieces:
        heard += piece
        if reply := finder.trace(False, heard):
            return finder, reply
    return finder, b""


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.binary(max_size=80), st.sampled_from([ANSWER, REFUSAL]), st.binary(max_size=20), CUTS)
@example(b"\x07", ANSWER, b"", [])
@example(b"\x07\x04", ANSWER, b"", [])
@example(b"\x07\x04\x04", ANSWER, b"", [1])
@example(ANSWER[:-1], ANSWER, b"", [])
@example(ANSWER[:5] + rtu(9, 4, 2, 0, 0), REFUSAL, b"", [])
@example(ASKED, ANSWER, ASKED, [8])
def test_an_rtu_reply_is_found_wherever_it_begins(noise: bytes, reply: bytes, behind: bytes, at: list[int]) -> None:
    finder, found = after(ASKED, *cut(noise + reply + behind, at))
    assert finder.found
    if found != reply:  # the noise itself held a whole reply
        assert found[0] == 7
        assert crc16(found[:-2]) == found[-2:]
        assert found[1:3] == b"\x04\x04" or found[1] == 0x84


@given(st.binary(max_size=60), st.sampled_from([ANSWER_TCP, REFUSAL_TCP]), CUTS)
@example(tcp(257, 7, 4, 4, 0, 0, 0, 0), ANSWER_TCP, [])
@example(b"\x01\x02\x00\x00", ANSWER_TCP, [])
@example(ANSWER_TCP[:-3], REFUSAL_TCP, [4])
def test_a_tcp_reply_is_found_behind_what_an_earlier_request_left(before: bytes, reply: bytes, at: list[int]) -> None:
    finder, found = after(ASKED_TCP, *cut(before + reply, at), over_tcp=True)
    assert finder.found
    assert found == reply or found[:2] == reply[:2]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)), st.booleans())
def test_any_bytes_are_no_reply_or_a_whole_one_and_can_be_described(
    rubbish: bytes,
    at: list[int],
    over_tcp: bool,  # noqa: FBT001
) -> None:
    finder, found = after(ASKED_TCP if over_tcp else ASKED, *cut(rubbish, at), over_tcp=over_tcp)
    assert finder.found == bool(found)
    assert finder.describe()
    if found and not over_tcp:
        assert crc16(found[:-2]) == found[-2:]


def test_the_reply_of_another_moment_unit_function_or_length_is_not_the_reply() -> None:
    for other in (rtu(8, 4, 4, 0, 1, 0, 2), rtu(7, 3, 4, 0, 1, 0, 2), rtu(7, 4, 2, 0, 1), rtu(8, 0x84, 2)):
        finder, found = after(ASKED, other)
        assert found == b""
        assert not finder.found
    for other in (
        tcp(259, 7, 4, 4, 0, 1, 0, 2),
        tcp(258, 8, 4, 4, 0, 1, 0, 2),
        tcp(258, 7, 3, 4, 0, 1, 0, 2),
        tcp(258, 7, 4, 2, 0, 1),
        tcp(258, 7, 4, 4, 0, 1),
    ):
        assert after(ASKED_TCP, other, over_tcp=True)[1] == b""


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        (rtu(8, 4, 4, 0, 1, 0, 2), "a reply of unit 8"),
        (rtu(7, 3, 4, 0, 1, 0, 2), "a reply of function 3, asked 4"),
        (rtu(7, 4, 2, 0, 1), "asked 2 of function 4, got 1 of 4"),
        (ANSWER[:-1] + b"\x00", "a reply with a wrong CRC"),
        (ANSWER[:6], "a reply that breaks off"),
        (b"\xff\x00\xff", "3 bytes that are no frame: ff 00 ff"),
        (b"\xff" * 30, "30 bytes that are no frame: " + "ff " * 24 + "…"),
    ],
)
def test_what_came_over_rtu_in_its_place_is_said(heard: bytes, said: str) -> None:
    finder, _ = after(ASKED, heard)
    assert finder.describe() == said


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        (tcp(259, 7, 4, 4, 0, 1, 0, 2), "a reply of transaction 259, asked 258"),
        (tcp(258, 9, 4, 4, 0, 1, 0, 2), "a reply of unit 9"),
        (tcp(258, 7, 0x83, 2), "a reply of function 3, asked 4"),
        (tcp(258, 7, 4, 8, *range(8)), "asked 2 of function 4, got 4 of 4"),
        (b"HTTP/1.1 400 Bad Request", "24 bytes that are no frame: " + b"HTTP/1.1 400 Bad Request".hex(" ")),
    ],
)
def test_what_came_over_tcp_in_its_place_is_said(heard: bytes, said: str) -> None:
    finder, _ = after(ASKED_TCP, heard, over_tcp=True)
    assert finder.describe() == said


def test_an_adapter_that_sends_the_request_back_has_not_answered() -> None:
    finder, found = after(ASKED, ASKED)
    assert found == b""
    assert finder.only_echo
    assert after(ASKED, ASKED, ANSWER)[1] == ANSWER


def test_a_new_request_forgets_what_came_for_the_last_one() -> None:
    finder, found = after(ASKED, ANSWER)
    assert found
    finder.trace(True, ASKED)
    assert not finder.found
    assert finder.heard == b""


def test_coils_come_eight_to_a_byte() -> None:
    asked, answer = rtu(7, 1, 0, 9, 0, 10), rtu(7, 1, 2, 0xFF, 0x03)
    assert after(asked, answer)[1] == answer
    assert after(asked, rtu(7, 1, 1, 1))[0].describe() == "asked 2 bytes of function 1, got 1 of 1"
