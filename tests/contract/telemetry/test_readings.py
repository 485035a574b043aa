"""Contract of a telemetry store, on every adapter of `core.telemetry.port`: readings, cursor, seal and retention."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant
from core.telemetry.port import Curve, StoredReading, Telemetry
from core.telemetry.reading_columns import LAST_AT
from core.wire.quality import Quality
from core.wire.shards import Shard
from tests.fixtures.telemetry_adapters import EVER, SERIES, START, open_adapter

FRIDGE, FREEZER, UNKNOWN = SeriesId(7), SeriesId(8), SeriesId(2**24 - 1)


def sample(minute: float, value: int | None, q: int = 0, series: SeriesId = FRIDGE) -> StoredReading:
    return StoredReading(series, Instant(START + int(minute * MINUTE)), None if value is None else Centi(value), q)


def shown(curve: Curve) -> list[tuple[float, int | None, int]]:
    return [((each.at - START) / MINUTE, each.value, each.q) for each in curve.samples(FRIDGE)]


def test_readings_come_back_in_order_of_time_however_they_were_written(store: Telemetry) -> None:
    store.write_batch([sample(3, 430), sample(1, 410)], {})
    store.write_batch([sample(2, 420), sample(0, 400)], {})
    assert shown(store.range(FRIDGE, *EVER)) == [(0, 400, 0), (1, 410, 0), (2, 420, 0), (3, 430, 0)]


def test_a_range_has_its_first_instant_and_not_its_last(store: Telemetry) -> None:
    store.write_batch([sample(59, 1), sample(60, 2), sample(61, 3)], {})
    for seal in (False, True):
        if seal:
            store.seal(Instant(START + DAY))
        since, until = Instant(START + 59 * MINUTE), Instant(START + 61 * MINUTE)
        assert shown(store.range(FRIDGE, since, until)) == [(59, 1, 0), (60, 2, 0)]
        assert shown(store.range(FRIDGE, Instant(since + 1), Instant(until + 1))) == [(60, 2, 0), (61, 3, 0)]
        assert shown(store.range(FRIDGE, until, until)) == []
        assert shown(store.range(FRIDGE, until, since)) == []


def test_of_two_values_for_an_instant_the_later_stands(store: Telemetry) -> None:
    store.write_batch([sample(0, 400), sample(0, 500)], {})
    assert shown(store.range(FRIDGE, *EVER)) == [(0, 500, 0)]
    store.write_batch([sample(0, 450, 64)], {})
    assert shown(store.range(FRIDGE, *EVER)) == [(0, 450, 64)]
    store.seal(Instant(START + DAY))
    store.write_batch([sample(0, None, 4)], {})
    assert shown(store.range(FRIDGE, *EVER)) == [(0, None, 4)]
    assert store.latest([FRIDGE]) == {FRIDGE: sample(0, None, 4)}
    store.write_batch([sample(0, 410)], {})
    store.seal(Instant(START + DAY))
    assert shown(store.range(FRIDGE, *EVER)) == [(0, 410, 0)]
    assert store.latest([FRIDGE]) == {FRIDGE: sample(0, 410)}


def test_who_has_seen_an_older_value_is_not_stuck_with_it(store: Telemetry, adapter: str, tmp_path: Path) -> None:
    reader = open_adapter(adapter, tmp_path, read_only=True)
    store.write_batch([sample(0, 400), sample(1, 400)], {})
    assert shown(reader.range(FRIDGE, *EVER)) == [(0, 400, 0), (1, 400, 0)]
    store.write_batch([sample(0, 500)], {})
    store.seal(Instant(START + DAY))
    store.write_batch([sample(1, 600)], {})
    assert shown(reader.range(FRIDGE, *EVER)) == [(0, 500, 0), (1, 600, 0)]
    store.seal(Instant(START + DAY))
    assert shown(reader.range(FRIDGE, *EVER)) == [(0, 500, 0), (1, 600, 0)]
    reader.close()


def test_the_cursor_says_which_log_it_is_of_and_is_placed_backwards_by_nothing_else(store: Telemetry) -> None:
    both = {Shard("00"): 7, Shard("ff"): 9}
    store.write_batch([sample(0, 400)], both, dict.fromkeys(both, "1f/ab"))
    assert {mark.partition("/")[0] for _, mark in store.cursor().values()} == {"1f"}
    store.write_batch([], {Shard("00"): 3}, {Shard("00"): "1f/cd"})
    assert store.positions() == both
    store.place_cursor({Shard("00"): 2}, {Shard("00"): "2e/"})
    assert store.cursor() == {"00": (2, "2e/")}
    store.write_batch([], {Shard("00"): 3, Shard("ff"): 1}, {Shard("00"): "2e/", Shard("ff"): "2e/"})
    assert store.positions() == {"00": 3, "ff": 1}
    assert shown(store.range(FRIDGE, *EVER)) == [(0, 400, 0)]


def test_the_highest_series_is_told_from_every_layer(store: Telemetry) -> None:
    assert store.highest_series() == 0
    store.write_batch([sample(0, 400, 0, SeriesId(9_999_999))], {})
    store.write_batch([sample(0, 400, 0, SeriesId(12))], {})
    assert store.highest_series() == 9_999_999
    store.seal(Instant(START + HOUR))
    assert store.highest_series() == 9_999_999
    store.seal(Instant(START + 2 * DAY))
    store.write_batch([sample(0, 400, 0, FRIDGE)], {})
    assert store.highest_series() == 9_999_999


def test_the_same_batch_again_changes_nothing(store: Telemetry) -> None:
    batch = [sample(minute, minute) for minute in range(120)]
    for _ in range(3):
        store.write_batch(batch, {Shard("0a"): 5})
        store.seal(Instant(START + HOUR))
        assert shown(store.range(FRIDGE, *EVER)) == [(minute, minute, 0) for minute in range(120)]


def test_a_failed_reading_is_a_fact_with_its_cause(store: Telemetry) -> None:
    failed = [sample(1, None, Quality.OPEN_OR_SHORT), sample(2, None, Quality.TIMEOUT | Quality.BACKFILLED)]
    store.write_batch([sample(0, -1850, Quality.CLOCK_UNSYNCED), *failed, sample(3, 0)], {})
    expected = [(0, -1850, 32), (1, None, 1), (2, None, 68), (3, 0, 0)]
    assert shown(store.range(FRIDGE, *EVER)) == expected
    store.seal(Instant(START + DAY))
    assert shown(store.range(FRIDGE, *EVER)) == expected


def test_a_quality_has_sixteen_bits_with_a_value_and_without(store: Telemetry) -> None:
    every = [0, *(1 << bit for bit in range(16)), 2**16 - 1, Quality.RELEASED | Quality.BACKFILLED]
    store.write_batch([sample(n, 400, q) for n, q in enumerate(every)], {})
    store.write_batch([sample(n + 100, None, q) for n, q in enumerate(every)], {})
    expected = [(n, 400, q) for n, q in enumerate(every)] + [(n + 100, None, q) for n, q in enumerate(every)]
    for _ in range(2):
        assert shown(store.range(FRIDGE, *EVER)) == expected
        assert store.latest([FRIDGE]) == {FRIDGE: sample(100 + len(every) - 1, None, every[-1])}
        store.seal(Instant(START + DAY))
    with pytest.raises((ValueError, OverflowError)):
        store.write_batch([sample(0, 1, 2**16)], {})


def test_a_series_of_failures_alone(store: Telemetry) -> None:
    store.write_batch([sample(minute, None, 4) for minute in range(90)], {})
    store.seal(Instant(START + DAY))
    curve = store.range(FRIDGE, *EVER)
    assert len(curve) == 90
    assert np.isnan(curve.value).all()
    assert store.latest([FRIDGE]) == {FRIDGE: sample(89, None, 4)}


def test_a_series_without_readings_is_an_empty_curve(store: Telemetry) -> None:
    store.write_batch([sample(0, 400)], {})
    curve = store.range(UNKNOWN, *EVER)
    assert [column.dtype.name for column in (curve.at, curve.value, curve.q)] == ["int64", "float64", "uint16"]
    assert len(curve) == 0
    assert store.latest([UNKNOWN]) == {}


def test_several_series_at_once_each_get_their_own(store: Telemetry) -> None:
    store.write_batch([sample(n % 60, n, 0, SeriesId(n % 5)) for n in range(300)], {})
    for _ in range(2):
        several = store.multi_range([SeriesId(n) for n in (4, 0, 2)] + [UNKNOWN], *EVER)
        assert set(several) == {0, 2, 4, UNKNOWN}
        for series, curve in several.items():
            assert shown(curve) == shown(store.range(series, *EVER))
            assert len(curve) == (0 if series == UNKNOWN else 12)
        store.seal(Instant(START + DAY))


def test_a_whole_county_at_once(store: Telemetry) -> None:
    everyone = [SeriesId(n * 31) for n in range(700)]
    store.write_batch([sample(0, n % 500, 0, each) for n, each in enumerate(everyone)], {})
    assert {each: shown(curve) for each, curve in store.multi_range(everyone, *EVER).items()} == {
        each: [(0, n % 500, 0)] for n, each in enumerate(everyone)
    }
    assert store.latest(everyone) == {each: sample(0, n % 500, 0, each) for n, each in enumerate(everyone)}


def test_the_latest_is_by_time_not_by_arrival_and_may_be_a_failure(store: Telemetry) -> None:
    store.write_batch([sample(5, 450), sample(4, 440, 0, FREEZER)], {})
    store.write_batch([sample(2, 420)], {})
    assert store.latest([FRIDGE, FREEZER]) == {FRIDGE: sample(5, 450), FREEZER: sample(4, 440, 0, FREEZER)}
    store.seal(Instant(START + DAY))
    store.write_batch([sample(3, 430)], {})
    assert store.latest([FRIDGE]) == {FRIDGE: sample(5, 450)}
    store.write_batch([sample(70, None, Quality.TIMEOUT)], {})
    assert store.latest([FRIDGE]) == {FRIDGE: sample(70, None, Quality.TIMEOUT)}
    store.seal(Instant(START + DAY))
    assert store.latest([FRIDGE]) == {FRIDGE: sample(70, None, Quality.TIMEOUT)}


def test_the_cursor_moves_with_the_data_and_never_back(store: Telemetry) -> None:
    store.write_batch([sample(0, 400)], {Shard("00"): 3, Shard("ff"): 9})
    store.write_batch([], {Shard("00"): 4})
    store.write_batch([sample(1, 400)], {Shard("ff"): 2})
    assert dict(store.positions()) == {"00": 4, "ff": 9}


def test_what_was_written_is_there_when_the_store_is_opened_again(adapter: str, tmp_path: Path) -> None:
    store = open_adapter(adapter, tmp_path)
    store.write_batch([sample(0, 400), sample(61, 410)], {Shard("00"): 1})
    store.seal(Instant(START + HOUR))
    before = (shown(store.range(FRIDGE, *EVER)), store.latest([FRIDGE]), dict(store.positions()))
    store.close()
    for read_only in (True, False):
        again = open_adapter(adapter, tmp_path, read_only=read_only)
        assert (shown(again.range(FRIDGE, *EVER)), again.latest([FRIDGE]), dict(again.positions())) == before
        again.close()


def test_a_month_of_a_probe_and_a_thousand_years_asked(store: Telemetry) -> None:
    jitter = random.Random(3)
    month = [sample(minute + jitter.random() / 2, jitter.randrange(200, 800)) for minute in range(30 * 1440)]
    for first in range(0, len(month), 5_000):
        store.write_batch(month[first : first + 5_000], {})
    expected = [(each.at, each.value) for each in month]
    for before in (START, START + 11 * DAY, START + 40 * DAY):
        store.seal(Instant(before))
        curve = store.range(FRIDGE, *EVER)
        assert list(zip(curve.at.tolist(), curve.value.tolist(), strict=True)) == expected


def test_days_and_months_that_are_over_answer_as_before_and_take_late_readings(store: Telemetry) -> None:
    model: dict[int, StoredReading] = {}

    def write(*some: StoredReading) -> None:
        store.write_batch(list(some), {})
        model.update({each.at: each for each in some})

    fifty_days = range(0, 50 * 1440, 30)
    write(*(sample(n, None if n % 70 == 0 else n % 900, Quality.TIMEOUT if n % 70 == 0 else n % 3) for n in fifty_days))
    store.write_batch([sample(7, 1, 0, FREEZER)], {})
    for days in (0, 3, 16, 17, 50, 60):
        store.seal(Instant(START + days * DAY))
        write(sample(days * 700, 1000 + days, Quality.BACKFILLED), sample(days * 700 + 7, None, Quality.PROTOCOL))
        write(sample(20 * 1440, days), sample(20 * 1440 + 30, -days, 9))
        for since, until in (EVER, (Instant(START + 15 * DAY), Instant(START + 18 * DAY))):
            asked = [each for at, each in sorted(model.items()) if since <= at < until]
            assert list(store.range(FRIDGE, since, until).samples(FRIDGE)) == asked
        assert store.latest([FRIDGE, FREEZER]) == {FRIDGE: model[max(model)], FREEZER: sample(7, 1, 0, FREEZER)}


def test_far_instants_and_large_values_come_back_exactly(store: Telemetry) -> None:
    odd = [StoredReading(FRIDGE, Instant(at), Centi(value), 0) for at, value in ((0, -27_315), (LAST_AT, 2**31 - 1))]
    near = [
        StoredReading(FRIDGE, Instant(at), Centi(value), 255) for at, value in ((1, 2**31 - 1), (HOUR - 1, 1 - 2**31))
    ]
    store.write_batch(odd + near, {})
    expected = sorted(odd + near, key=lambda each: each.at)
    assert list(store.range(FRIDGE, *EVER).samples(FRIDGE)) == expected
    store.seal(Instant(2**53))
    assert list(store.range(FRIDGE, *EVER).samples(FRIDGE)) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        StoredReading(SeriesId(2**24), START, Centi(1), 0),
        StoredReading(SeriesId(-1), START, Centi(1), 0),
        StoredReading(FRIDGE, START, Centi(2**31), 0),
        StoredReading(FRIDGE, START, Centi(-(2**31)), 0),
        StoredReading(FRIDGE, Instant(LAST_AT + 1), Centi(1), 0),
    ],
)
def test_what_cannot_be_stored_is_refused_whole(store: Telemetry, wrong: StoredReading) -> None:
    with pytest.raises(ValueError, match="can't be stored"):
        store.write_batch([sample(0, 400), wrong], {Shard("00"): 1})
    assert len(store.range(FRIDGE, *EVER)) == 0
    assert not store.positions()


def test_retention_forgets_what_is_old_and_nothing_else(store: Telemetry) -> None:
    store.write_batch([sample(minute, minute) for minute in range(0, 100 * 1440, 60)], {Shard("00"): 4})
    store.write_batch([sample(10, 1, 0, FREEZER)], {})
    store.seal(Instant(START + 95 * DAY))
    until = Instant(START + 60 * DAY)
    store.drop_before(until)
    left = shown(store.range(FRIDGE, *EVER))
    assert left == [(minute, minute, 0) for minute in range(int(left[0][0]), 100 * 1440, 60)]
    assert 29 * 1440 <= left[0][0] <= 60 * 1440
    assert dict(store.positions()) == {"00": 4}


some_samples = st.lists(
    st.builds(
        StoredReading,
        st.integers(1, 3).map(SeriesId),
        st.integers(0, 12).map(lambda n: Instant(START + n * 15 * MINUTE + n % 3 * SECOND)),
        st.none() | st.integers(-5_000, 15_000).map(Centi),
        st.integers(0, 255),
    ),
    max_size=12,
)
steps = st.lists(
    st.tuples(st.just("write"), some_samples)
    | st.tuples(st.just("seal"), st.integers(0, 4) | st.just(60))
    | st.tuples(st.just("open again"), st.none()),
    max_size=12,
)


def test_it_is_a_dictionary_whatever_is_done_in_whatever_order(adapter: str) -> None:
    @settings(max_examples=60 if adapter == "embedded" else 12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps=steps, since=st.integers(-1, 13), until=st.integers(-1, 13))
    def tried(steps: list[tuple[str, list[StoredReading] | int | None]], since: int, until: int) -> None:
        is_a_dictionary(adapter, steps, since, until)

    tried()


def is_a_dictionary(
    adapter: str, steps: list[tuple[str, list[StoredReading] | int | None]], since: int, until: int
) -> None:
    model: dict[tuple[int, int], StoredReading] = {}
    bounds = Instant(START + since * 15 * MINUTE), Instant(START + until * 15 * MINUTE)
    with tempfile.TemporaryDirectory() as folder:
        store = open_adapter(adapter, Path(folder))
        reader = open_adapter(adapter, Path(folder), read_only=True)
        for n, (what, given_) in enumerate(steps):
            if isinstance(given_, list):
                store.write_batch(given_, {Shard("00"): n + 1})
                model.update({(each.series, each.at): each for each in given_})
            elif isinstance(given_, int):
                store.seal(Instant(START + given_ * HOUR))
            else:
                store.close()
                store = open_adapter(adapter, Path(folder))
            for looker in (store, reader):
                for series in SERIES:
                    mine = sorted((each for each in model.values() if each.series == series), key=lambda each: each.at)
                    asked = [each for each in mine if bounds[0] <= each.at < bounds[1]]
                    assert list(looker.range(series, *bounds).samples(series)) == asked, what
                    assert looker.latest([series]) == ({series: mine[-1]} if mine else {}), what
        store.close()
        reader.close()
