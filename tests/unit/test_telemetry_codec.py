import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import Centi, SeriesId
from core.runtime.instant import HOUR, Instant
from core.telemetry.codec import Damaged, decode_block, decode_frame, encode_block, encode_frame
from core.telemetry.port import StoredReading
from core.telemetry.reading_columns import SERIES_BITS, ReadingColumns, by_hour, from_samples, later_wins

START = 1_700_000_000_000 // HOUR * HOUR

values = st.none() | st.integers(-3_000, 5_000) | st.integers(-(2**31) + 1, 2**31 - 1)
qualities = st.just(0) | st.integers(0, 255) | st.integers(0, 2**16 - 1)


def samples_in(span: int, series: st.SearchStrategy[int]) -> st.SearchStrategy[list[StoredReading]]:
    one = st.builds(
        lambda series, offset, value, q: StoredReading(
            SeriesId(series), Instant(START + offset), value and Centi(value), q
        ),
        series,
        st.integers(0, span - 1) | st.integers(0, (span - 1) // 60_000).map(lambda minute: minute * 60_000),
        values,
        qualities,
    )
    return st.lists(one, min_size=1, max_size=80)


def rows(columns: ReadingColumns) -> list[tuple[int, int, int | None, int]]:
    return list(columns.rows())


@given(samples_in(HOUR, st.integers(0, 2**24 - 1)))
def test_a_frame_comes_back_as_it_was_in_its_order(samples: list[StoredReading]) -> None:
    columns = from_samples(samples)
    again = decode_frame(START // HOUR, encode_frame(START // HOUR, columns))
    assert rows(again) == rows(columns) == [(each.series, each.at, each.value, each.q) for each in samples]


@settings(max_examples=300)
@given(samples_in(HOUR, st.just(77)) | samples_in(24 * HOUR, st.just(77)) | samples_in(2**40, st.just(77)))
def test_a_block_comes_back_exactly(samples: list[StoredReading]) -> None:
    columns = later_wins([from_samples(samples)])
    key = START // HOUR << SERIES_BITS | 77
    assert rows(decode_block(key, START, encode_block(key, START, columns))) == rows(columns)


@given(samples_in(HOUR, st.just(77)), st.data())
def test_no_changed_byte_goes_unseen(samples: list[StoredReading], data: st.DataObject) -> None:
    key = START // HOUR << SERIES_BITS | 77
    written = bytearray(encode_block(key, START, later_wins([from_samples(samples)])))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        decode_block(key, START, bytes(written))


@pytest.mark.parametrize(
    ("version", "said"),
    [(1, "has version 1, this coldchain knows 2 and 3: go back"), (4, "has version 4, .*: install the newer")],
)
def test_a_block_of_another_version_says_what_to_do(version: int, said: str) -> None:
    key = START // HOUR << SERIES_BITS | 77
    written = encode_block(key, START, from_samples([StoredReading(SeriesId(77), Instant(START), Centi(1), 0)]))
    assert written[0] >> 4 == 3
    other = bytes((version << 4 | written[0] & 15,)) + written[1:-4]
    sum_of_other = zlib.crc32(other, zlib.crc32(key.to_bytes(8, "little", signed=True)))
    with pytest.raises(Damaged, match=rf"series 77\): {said}"):
        decode_block(key, START, other + sum_of_other.to_bytes(4, "little"))


FEW: dict[int, tuple[int | None, int]] = {7: (None, 4), 9: (400, 192)}
MANY = {n: (None, 68) if n % 5 == 0 else (400 + n % 3 * 10, 192) for n in range(30)}


@pytest.mark.parametrize(
    ("marked", "frame", "block"),
    [
        (
            FEW,
            (
                "011e0000007801f3f5c507186807120e28343c7058c0809566787565ffcac97519c1b6ea427f9e5ddcbd6c4255aabfa50adfcfc7677"
                "72cea616060646266616563e7e0e4e2e2e6e1e5e3171014121611151513979094c2efe409b3968010039884b0914846086080d26814"
                "7e93a1b20d7855b1301cc0260f001b693aac25975c4f"
            ),
            "221e00c0a9070aa006ff020f0404c0002705c1010d000000c2a061ffcc9f40b488888838075fabf4",
        ),
        (
            MANY,
            (
                "011e0000007801f3f5c507186807120e28343c7058c0809566787565ffcac97519c1b6ea427f9e5ddcbd6c4255aabfa50adfcfc7677"
                "72cea616060646266616563e7e0e4e2e2e6e1e5e317101412161115151397909422e0e4594b26cc6298002419808c250c685c462060"
                "c049e035ba01248b93703900043809000d3d4cf95c0a8d65"
            ),
            (
                "241e00c0a9070ab406ff0884210840270dc1010100000040a073869b46e170381c0e17002905c1810d000008c3a0e0ff3777828c2e2"
                "6a38b07981fe603"
            ),
        ),
    ],
    ids=["few marks", "many marks"],
)
def test_what_was_written_while_a_quality_had_eight_bits_is_read(
    marked: dict[int, tuple[int | None, int]], frame: str, block: str
) -> None:
    """Thirty readings, one a minute, as version 1 of frames and version 2 of blocks have them."""
    usual = {n: (400 + n % 3 * 10, 0) for n in range(30)}
    expected = [(77, START + n * 60_000, *said) for n, said in (usual | marked).items()]
    assert rows(decode_frame(START // HOUR, bytes.fromhex(frame))) == expected
    key = START // HOUR << SERIES_BITS | 77
    older = decode_block(key, START, bytes.fromhex(block))
    assert rows(older) == expected
    newer = from_samples([StoredReading(SeriesId(77), Instant(START), Centi(1), 256)])
    again = decode_block(key, START, encode_block(key, START, later_wins([older, newer])))
    assert rows(again) == [(77, START, 1, 256), *expected[1:]]


def test_bytes_of_another_place_or_cut_off_are_not_read() -> None:
    columns = from_samples([StoredReading(SeriesId(1), Instant(START), Centi(1), 0)])
    frame = bytearray(encode_frame(START // HOUR, columns))
    with pytest.raises(Damaged):
        decode_frame(START // HOUR + 1, bytes(frame))
    for empty in (b"", b"\x01", b"\x01\x00\x00\x00"):
        with pytest.raises(Damaged):
            decode_block(1, START, empty)


@given(st.lists(samples_in(4 * 60_000, st.integers(1, 3)), max_size=6), st.data())
def test_merging_is_a_dictionary_in_any_grouping_and_when_repeated(
    batches: list[list[StoredReading]], data: st.DataObject
) -> None:
    model = {(each.series, each.at): each for batch in batches for each in batch}
    expected = [(each.series, each.at, each.value, each.q) for _, each in sorted(model.items())]
    pieces = [from_samples(batch) for batch in batches]
    assert rows(later_wins(pieces)) == expected
    cut = data.draw(st.integers(0, len(pieces)))
    assert rows(later_wins([later_wins(pieces[:cut]), later_wins(pieces[cut:])])) == expected
    assert rows(later_wins([later_wins(pieces), *pieces])) == expected


@given(samples_in(5 * HOUR, st.integers(1, 4)))
def test_hours_part_readings_without_changing_their_order(samples: list[StoredReading]) -> None:
    parts = dict(by_hour(from_samples(samples)))
    for hour, part in parts.items():
        assert [row[1] for row in rows(part)] == [each.at for each in samples if each.at // HOUR == hour]
    assert sum(part.size for part in parts.values()) == len(samples)


@given(samples_in(HOUR, st.integers(1, 5)), st.sets(st.integers(0, 6)))
def test_each_series_and_its_newest_are_found(samples: list[StoredReading], wanted: set[int]) -> None:
    ordered = later_wins([from_samples(samples)])
    parts = {series: rows(part) for series, part in ordered.by_series()}
    for series in range(7):
        assert rows(ordered.of(series)) == parts.get(series, []) == [row for row in rows(ordered) if row[0] == series]
    newest = ordered.newest(np.array(sorted(wanted), np.uint32))
    assert rows(newest) == [parts[series][-1] for series in sorted(wanted & parts.keys())]


def test_a_quiet_sensor_takes_little_room() -> None:
    """A tenth of a degree now and then, a reading a minute on the dot."""
    quiet = [
        StoredReading(SeriesId(1), Instant(START + n * 60_000), Centi(420 + n // 20 % 3 * 10), 0) for n in range(1440)
    ]
    assert len(encode_block(1, START, from_samples(quiet))) < 0.1 * 1440
    assert len(encode_block(1, START, from_samples(quiet[:60]))) < 0.6 * 60
