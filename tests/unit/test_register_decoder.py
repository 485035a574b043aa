import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.simulate.modbus import registers
from core.wire.messages import Reading
from core.wire.quality import Quality
from gateway_agent.device_profile import BlockLimits, ByteOrder, ProfileChannel, RawType, ScaleSelector, StatusBit
from gateway_agent.read_plan import BlockRead, blocks
from gateway_agent.register_decoder import measure, points, reading

ORDERS = st.sampled_from(["ABCD", "BADC", "CDAB", "DCBA"])
RANGES = {"u16": (0, 2**16 - 1), "s16": (-(2**15), 2**15 - 1), "u32": (0, 2**32 - 1), "s32": (-(2**31), 2**31 - 1)}
WIDE = (-1e12, 1e12)


def channel(**changes: object) -> ProfileChannel:
    plain = ProfileChannel(name="t", quantity="t", function=3, address=10, type="s16", valid=WIDE)
    return msgspec.structs.replace(plain, **changes)


def words(of: ProfileChannel, raw: list[int]) -> dict[tuple[int, int], int]:
    return {(of.function, of.address + step): word for step, word in enumerate(raw)}


@pytest.mark.parametrize(
    ("order", "raw"),
    [
        ("ABCD", [0x1122, 0x3344]),
        ("BADC", [0x2211, 0x4433]),
        ("CDAB", [0x3344, 0x1122]),
        ("DCBA", [0x4433, 0x2211]),
    ],
)
def test_the_four_orders_of_a_u32(order: ByteOrder, raw: list[int]) -> None:
    of = channel(type="u32", order=order)
    assert measure(of, words(of, raw)) == (float(0x11223344), Quality.GOOD)


@given(order=ORDERS, kind=st.sampled_from(sorted(RANGES)), data=st.data())
def test_what_a_device_packs_comes_out_whatever_the_order(order: ByteOrder, kind: RawType, data: st.DataObject) -> None:
    value = data.draw(st.integers(*RANGES[kind]))
    of = channel(type=kind, order=order)
    assert measure(of, words(of, registers(of, float(value))))[0] == value


@given(order=ORDERS, kind=st.sampled_from(["f32", "f64"]), value=st.floats(-1000, 1000, width=32))
def test_floats_too_rounded_to_what_is_stored(order: ByteOrder, kind: RawType, value: float) -> None:
    of = channel(type=kind, order=order)
    got, q = measure(of, words(of, registers(of, value)))
    assert q == Quality.GOOD
    assert got == pytest.approx(value, abs=0.00501)
    assert got == round(got or 0.0, 2)


@given(
    scale=st.sampled_from([1.0, 0.1, 0.01, 0.0625, 0.5, -0.1]),
    offset=st.sampled_from([0.0, -40.0, 2.5]),
    raw=st.integers(-(2**15), 2**15 - 1),
)
def test_scale_and_offset(scale: float, offset: float, raw: int) -> None:
    of = channel(scale=scale, offset=offset)
    got, _ = measure(of, words(of, [raw & 0xFFFF]))
    assert got == pytest.approx(raw * scale + offset, abs=0.00501)
    assert round((got or 0.0) * 100) == pytest.approx((got or 0.0) * 100, abs=1e-6)
    assert math.copysign(1.0, got or 0.0) == 1.0 or got != 0.0, "no minus zero"


@pytest.mark.parametrize(
    ("changes", "raw", "q"),
    [
        ({"errors": [0x8000]}, [0x8000], Quality.OPEN_OR_SHORT),
        ({"errors": [-1800]}, [-1800 & 0xFFFF], Quality.OPEN_OR_SHORT),
        ({"errors": [30000, -30000]}, [-30000 & 0xFFFF], Quality.OPEN_OR_SHORT),
        ({"errors": [0x8000], "order": "BADC"}, [0x0080], Quality.OPEN_OR_SHORT),
        ({"type": "f32"}, [0x7FC0, 0], Quality.OPEN_OR_SHORT),
        ({"type": "f32"}, [0x7F80, 0], Quality.OUT_OF_RANGE),
        ({"valid": (-40.0, 80.0), "scale": 0.1}, [801], Quality.OUT_OF_RANGE),
        ({"valid": (-40.0, 80.0), "scale": 0.1}, [-401 & 0xFFFF], Quality.OUT_OF_RANGE),
    ],
)
def test_what_is_no_measurement_is_null_with_its_cause(changes: dict[str, object], raw: list[int], q: Quality) -> None:
    of = channel(**changes)
    assert measure(of, words(of, raw)) == (None, q)


def test_the_ends_of_the_valid_range_are_valid() -> None:
    of = channel(valid=(-40.0, 80.0), scale=0.1)
    assert measure(of, words(of, [800])) == (80.0, Quality.GOOD)
    assert measure(of, words(of, [-400 & 0xFFFF])) == (-40.0, Quality.GOOD)


def test_a_register_that_was_not_read_is_a_protocol_failure() -> None:
    of = channel(type="u32")
    assert measure(of, {(3, 10): 1}) == (None, Quality.PROTOCOL)


def test_a_selector_decides_the_scale_and_an_unknown_one_gives_no_value() -> None:
    of = channel(selector=ScaleSelector(function=3, address=76, scales={"0": 0.1, "1": 0.01}))
    assert measure(of, {(3, 10): 421, (3, 76): 0}) == (42.1, Quality.GOOD)
    assert measure(of, {(3, 10): 421, (3, 76): 1}) == (4.21, Quality.GOOD)
    assert measure(of, {(3, 10): 421, (3, 76): 2}) == (None, Quality.PROTOCOL)


def test_a_status_bit_condemns_the_value() -> None:
    of = channel(status=StatusBit(function=4, address=0, mask=0b10))
    assert measure(of, {(3, 10): 42, (4, 0): 0b01}) == (42.0, Quality.GOOD)
    assert measure(of, {(3, 10): 42, (4, 0): 0b11}) == (None, Quality.OPEN_OR_SHORT)


def test_a_bit_of_a_register_and_a_coil() -> None:
    door = channel(name="door", quantity="door", type="bit", bit=3, valid=(0.0, 1.0))
    assert measure(door, {(3, 10): 0b1000}) == (1.0, Quality.GOOD)
    assert measure(door, {(3, 10): 0b0111}) == (0.0, Quality.GOOD)
    coil = channel(name="door", quantity="door", type="bit", function=1, bit=3, valid=(0.0, 1.0))
    assert measure(coil, {(1, 10): 1}) == (1.0, Quality.GOOD)


def test_a_stale_reading_without_a_value_has_failed_and_loses_no_other_reading() -> None:
    stale = reading(channel(), "208601", 5, None, Quality.STALE)
    assert stale == Reading(p="208601", ts=5, t=None, q=int(Quality.STALE | Quality.TIMEOUT))
    broken = reading(channel(), "208601", 5, None, Quality.STALE | Quality.OPEN_OR_SHORT)
    assert broken.q == Quality.STALE | Quality.OPEN_OR_SHORT
    assert reading(channel(), "208601", 5, 4.2, Quality.STALE).t == 4.2, "a value that is only old stays as it is"


def test_readings_name_what_they_are() -> None:
    assert reading(channel(), "208601", 5, 4.2, Quality.GOOD) == Reading(p="208601", ts=5, t=4.2)
    humid = channel(name="h", quantity="h")
    assert reading(humid, "208601", 5, 54.6, Quality.GOOD) == Reading(p="208601", ts=5, k="h", v=54.6)
    with pytest.raises(ValueError, match="says why"):
        reading(channel(), "208601", 5, None, Quality.CLOCK_UNSYNCED)


spans = st.tuples(st.sampled_from([3, 4]), st.integers(0, 120), st.sampled_from(["u16", "s32", "f64"]))


@given(wanted=st.lists(spans, min_size=1, max_size=20), longest=st.integers(4, 125), gap=st.integers(0, 20))
def test_blocks_hold_every_value_whole_within_the_limits(
    wanted: list[tuple[int, int, RawType]], longest: int, gap: int
) -> None:
    channels = [channel(function=function, address=address, type=kind) for function, address, kind in wanted]
    plan = blocks(channels, BlockLimits(longest=longest, gap=gap))
    for of in channels:
        assert any(
            read.function == of.function
            and read.address <= of.address
            and of.address + of.span <= read.address + read.count
            for read in plan
        )
    needed = {point for of in channels for point in points(of)}
    for read in plan:
        assert read.count <= longest
        inside = sorted(address for function, address in needed if function == read.function)
        inside = [address for address in inside if read.address <= address < read.address + read.count]
        assert inside[0] == read.address
        assert inside[-1] == read.address + read.count - 1
        assert all(right - left - 1 <= gap for left, right in itertools.pairwise(inside))


def test_eight_neighbours_are_one_request_and_without_gaps_two() -> None:
    eight = [channel(address=address) for address in range(8)]
    assert blocks(eight, BlockLimits(longest=8)) == [BlockRead(3, 0, 8)]
    assert blocks([eight[0], eight[7]], BlockLimits(longest=8, gap=7)) == [BlockRead(3, 0, 8)]
    assert blocks([eight[0], eight[7]], BlockLimits(longest=8)) == [BlockRead(3, 0, 1), BlockRead(3, 7, 1)]
    assert blocks(eight, BlockLimits(longest=1)) == [BlockRead(3, address, 1) for address in range(8)]


def test_a_block_knows_its_length_on_the_wire() -> None:
    assert BlockRead(3, 0, 8).reply_bytes == 21
    assert BlockRead(1, 0, 9).reply_bytes == 7
