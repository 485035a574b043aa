"""Times in queries: every way to write an offset is read, and whatever is wrong gets the same hint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.schemas import Moment
from core.runtime.instant import Instant, parse

MOMENT: TypeAdapter[Instant] = TypeAdapter(Moment)
HINT = "write a time with its offset, such as 2026-03-28T03:02:40+08:00 or 2026-03-27T19:02:40Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-28T03:02:40+08:00",
        "2026-03-28T03:02:40 08:00",  # a plus that nobody escaped
        "2026-03-28T03:02:40+0800",
        "2026-03-28T03:02:40 0800",
        "2026-03-27T19:02:40Z",
        "2026-03-27T19:02:40z",
        "2026-03-27t19:02:40z",
        "2026-03-27 19:02:40Z",
        "2026-03-27T15:02:40-04:00",
        "2026-03-28T03:02:40.000+08:00",
        "2026-03-28T03:02:40,0+08:00",
    ],
)
def test_a_time_is_read_however_its_offset_is_written(text: str) -> None:
    assert MOMENT.validate_python(text) == parse("2026-03-28T03:02:40+08:00")


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026-03-28", "2026-03-28T03:02:40", "2026-13-28T03:02:40Z", "2026-03-28T25:02:40Z", "", "1774638160",
     "2026-03-28T03:02:40+99:00", "2026-03-28T03:02:40Z\n", "0000-03-28T03:02:40Z", "２０２６-03-28T03:02:40Z"],
)  # fmt: skip
def test_whatever_is_wrong_gets_the_same_hint(text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MOMENT.validate_python(text)
    assert [error["msg"] for error in refused.value.errors()] == [HINT]


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_gets_the_hint(text: str) -> None:
    try:
        assert isinstance(MOMENT.validate_python(text), int)
    except ValidationError as error:
        told = error.errors()[0]["msg"]
    else:
        told = HINT
    assert told == HINT
