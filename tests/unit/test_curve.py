"""The picture of a zone: what was measured, and no line where nothing was."""

import re
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pages.curve import HEIGHT, MOST_ROWS, WIDTH, Line, Picture, Trace, runs, svg, table, thinned
from core.ids import Centi
from core.runtime.instant import HOUR, MINUTE, Instant, Milliseconds, at_zone, parse
from core.telemetry.port import Curve

START = parse("2026-03-28T00:00:00+08:00")


def curve(values: list[float | None], every: int = MINUTE) -> Curve:
    at = START + np.arange(len(values), dtype=np.int64) * every
    value = np.array([np.nan if v is None else v * 100 for v in values])
    return Curve(at, value, np.zeros(len(values), np.uint16))


def picture(values: list[float | None], **more: object) -> Picture:
    traces = [Trace("208601", curve(values), Milliseconds(MINUTE))]
    said = {
        "since": START,
        "until": Instant(START + 3 * HOUR),
        "traces": traces,
        "low": Centi(200),
        "high": Centi(800),
        "onset": None,
        "timezone": ZoneInfo("Asia/Shanghai"),
        "title": "fridge",
        "empty_label": "nothing",
        **more,
    }
    return Picture(**said)  # type: ignore[arg-type]  # made of one dict


def lines(drawn: str) -> list[str]:
    return re.findall(r'<polyline class="line"[^>]*points="([^"]*)"', drawn)


def test_a_failed_reading_is_no_hole_and_three_silent_intervals_are() -> None:
    assert len(lines(svg(picture([4.0] * 20 + [None] + [4.0] * 20)))) == 1
    assert len(lines(svg(picture([4.0] * 20 + [None] * 2 + [4.0] * 20)))) == 1
    assert len(lines(svg(picture([4.0] * 20 + [None] * 3 + [4.0] * 20)))) == 2


def test_what_is_beyond_the_limits_is_drawn_as_beyond_only_outside_the_band() -> None:
    drawn = svg(picture([4.0, 9.0, 4.0]))
    inside = re.search(r'<clipPath id="inside"><rect x="0" y="([\d.]+)"[^>]*height="([\d.]+)"', drawn)
    limits = [float(y) for y in re.findall(r'<line class="limit"[^>]*y1="([\d.]+)"', drawn)]
    assert inside is not None
    assert float(inside[1]) == pytest.approx(limits[1])
    assert float(inside[1]) + float(inside[2]) == pytest.approx(limits[0], abs=0.2)
    assert 'class="line beyond" clip-path="url(#outside)"' in drawn
    assert "8°" in drawn
    assert "2°" in drawn


def test_a_zone_with_one_limit_has_no_other() -> None:
    drawn = svg(picture([-19.0], low=None, high=Centi(-1500)))
    assert drawn.count('class="limit"') == 1
    assert "-15°" in drawn


def test_nothing_measured_is_said_in_words() -> None:
    assert "nothing" in svg(picture([]))
    assert "nothing" in svg(picture([None, None]))
    assert "nothing" not in svg(picture([4.0]))


def test_the_onset_is_marked_on_the_sites_clock_and_only_inside_the_picture() -> None:
    drawn = svg(picture([4.0], onset=parse("2026-03-27T17:30:00Z"), onset_label="began"))
    assert "began 01:30" in drawn
    assert 'class="onset"' not in svg(picture([4.0], onset=Instant(START - 1), onset_label="began"))


def test_texts_are_escaped() -> None:
    drawn = svg(picture([4.0], title="<script>", onset=START, onset_label="<b>"))
    assert "<script>" not in drawn
    assert "<b>" not in drawn


def test_the_table_has_the_extremes_of_each_step_and_says_where_there_is_nothing() -> None:
    found = table(picture([4.0, 1.0, 9.0] + [5.0] * 27 + [None] * 60 + [6.0] * 90))
    assert found.step == 10 * MINUTE
    clocks = [at_zone(line.at, ZoneInfo("Asia/Shanghai")).strftime("%H:%M") for line in found.lines]
    assert clocks[:4] == ["00:00", "00:10", "00:20", "00:30"]
    assert found.lines[0] == Line(START, "208601", 10, Centi(100), Centi(900), beyond=True)
    assert found.lines[1] == Line(Instant(START + 10 * MINUTE), "208601", 10, Centi(500), Centi(500), beyond=False)
    assert {(line.count, line.low, line.high) for line in found.lines[3:9]} == {(0, None, None)}
    assert sum(line.count for line in found.lines) == 120
    assert table(picture([None, None])).lines == []


@pytest.mark.parametrize("hours", [1, 24, 7 * 24, 30 * 24])
def test_the_table_is_never_long_and_loses_no_reading(hours: int) -> None:
    values: list[float | None] = [4.0 for _ in range(hours * 6)]
    said = picture([], until=Instant(START + hours * HOUR), traces=[Trace("1", curve(values, 10 * MINUTE), MINUTE)])
    found = table(said)
    assert 5 <= len(found.lines) <= MOST_ROWS
    assert sum(line.count for line in found.lines) == len(values)


def test_labels_grow_with_the_readers_font_and_some_give_way_where_it_is_large() -> None:
    css = resources.files("api.pages").joinpath("assets", "coldchain.css").read_text("utf-8")
    sizes = re.findall(r"\.curve (?:text|\.\w+) { font-size: ([^;]+);", css)
    assert len(sizes) >= 4
    assert all(size.endswith("rem") for size in sizes), sizes
    assert ".curve .minor { display: none; }" in css
    assert svg(picture([4.0])).count('class="hour minor"') >= 2


@given(st.lists(st.one_of(st.none(), st.floats(-80, 80)), max_size=60))
def test_everything_is_drawn_inside_the_frame(values: list[float | None]) -> None:
    for points in lines(svg(picture(values))):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


@given(st.lists(st.integers(-500, 1500), min_size=1, max_size=3000), st.integers(2, 50))
def test_thinning_keeps_the_extremes_the_ends_and_the_order(values: list[int], columns: int) -> None:
    at = np.arange(len(values), dtype=np.int64) * MINUTE
    kept_at, kept = thinned(at, np.array(values, np.float64), columns)
    assert kept.min() == min(values)
    assert kept.max() == max(values)
    assert kept[-1] == values[-1]
    assert (np.diff(kept_at) > 0).all()
    assert len(kept) <= max(3 * columns, 1)


def test_runs_leave_out_what_has_no_value() -> None:
    found = list(runs(curve([None, 1.0, None, 2.0, None]), Milliseconds(MINUTE)))
    assert [value.tolist() for _, value in found] == [[100.0, 200.0]]
