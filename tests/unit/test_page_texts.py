"""Texts of pages: the same in both languages, nothing said in code, nothing said that isn't there."""

import re
import string
from pathlib import Path

import pytest

from api.pages.texts import LANGUAGES, catalogue, chosen, words
from core.ids import Centi
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Milliseconds, parse

API = Path(__file__).resolve().parent.parent.parent / "api"
TEMPLATES = sorted((API / "pages" / "templates").rglob("*.html"))


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_hold_the_same_texts_with_the_same_holes() -> None:
    chinese, english = (catalogue(language) for language in LANGUAGES)
    assert set(chinese) == set(english)
    assert {name: holes(text) for name, text in chinese.items()} == {
        name: holes(text) for name, text in english.items()
    }


def test_no_text_for_people_stands_in_code_or_templates() -> None:
    examples = {API / "routes" / "application_schemas.py"}  # of the API's document: units and devices as they are named
    files = [file for file in (*TEMPLATES, *API.rglob("*.py"), *API.rglob("*.js")) if file not in examples]
    said = re.compile(r"[\u4e00-\u9fff]+")
    docstring = re.compile(r'"""[\s\S]*?"""|#.*')
    for file in files:
        text = docstring.sub("", file.read_text("utf-8"))
        assert not said.findall(text), file.name


def test_every_text_that_is_asked_for_is_there_and_the_other_way_round() -> None:
    there = set(catalogue("en"))
    source = "\n".join(file.read_text("utf-8") for file in [*TEMPLATES, *(API / "pages").rglob("*.py")])
    asked = set(re.findall(r'(?:words|said|self)\(\s*"([a-z_0-9.]+)"', source))
    assert {name for name in asked if not name.endswith((".", "_"))} <= there
    families = set(re.findall(r'"([a-z_.]+[._])" ~', source)) | set(re.findall(r'f"([a-z_]+\.)\{', source))
    counted = {f"{name}.{form}" for name in re.findall(r'counted\("([a-z_.]+)"', source) for form in ("one", "other")}
    assert counted <= there
    quoted = counted | set(re.findall(r'"([a-z_0-9.]+)"', source))
    unused = {name for name in there if name not in quoted and not any(name.startswith(f) for f in families)}
    assert unused == set()


@pytest.mark.parametrize(
    ("asked", "kept", "accepted", "language"),
    [
        (None, None, None, "zh-CN"),
        (None, None, "en-US,en;q=0.9", "en"),
        (None, None, "zh;q=0.3, en;q=0.8", "en"),
        (None, None, "fr, zh-TW;q=0.5", "zh-CN"),
        (None, None, "fr", "zh-CN"),
        (None, None, "en;q=0", "zh-CN"),
        (None, "en", "zh-CN", "en"),
        ("zh-CN", "en", "en", "zh-CN"),
        ("klingon", None, "en", "en"),
        (None, None, "q=,;;;, \x00en;q=9", "en"),
    ],
)
def test_the_language_is_what_was_asked_then_kept_then_preferred_then_chinese(
    asked: str | None, kept: str | None, accepted: str | None, language: str
) -> None:
    assert chosen(asked, kept, accepted) == language


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (59 * SECOND, "59 s"),
        (61 * SECOND, "1 min"),
        (50 * MINUTE, "50 min"),
        (3 * HOUR + 12 * MINUTE, "3 h 12 min"),
        (2 * HOUR, "2 h"),
        (2 * DAY + 5 * HOUR, "2 d 5 h"),
    ],
)
def test_spans(length: int, text: str) -> None:
    assert words("en").span(Milliseconds(length)) == text


@pytest.mark.parametrize(
    ("count", "english", "chinese"),
    [
        (1, "1 alarm not closed", "1 个报警未结束"),
        (2, "2 alarms not closed", "2 个报警未结束"),
        (0, "0 alarms not closed", "0 个报警未结束"),
    ],
)
def test_numbers_of_things(count: int, english: str, chinese: str) -> None:
    assert words("en").counted("open_alarms", count) == english
    assert words("zh-CN").counted("open_alarms", count) == chinese


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_leaves_the_plural_to_the_reader_or_says_just_now(language: str) -> None:
    """A page stays open: what was just now is soon not."""
    for name, text in catalogue(language).items():
        assert "(s)" not in text, name
        assert not re.search("刚刚|just now", text), name


def test_a_temperature_is_never_rounded() -> None:
    written = [words("en").degrees(Centi(value)) for value in (805, 800, 810, -1500, -5, 0)]
    assert written == ["8.05", "8.0", "8.1", "-15.0", "-0.05", "0.0"]


def test_a_moment_of_another_day_has_its_date() -> None:
    from api.pages.rendering import zone_info

    now, zone = parse("2026-03-28T00:30:00+08:00"), zone_info("Asia/Shanghai")
    assert words("zh-CN").clock(parse("2026-03-28T00:05:00+08:00"), zone, now) == "00:05"
    assert words("zh-CN").clock(parse("2026-03-27T23:59:00+08:00"), zone, now) == "03-27 23:59"
    assert words("zh-CN").clock(parse("2026-03-28T00:05:00+08:00"), zone) == "03-28 00:05"
    assert words("zh-CN").clock(parse("2026-03-28T00:05:09+08:00"), zone, now, seconds=True) == "00:05:09"
