"""Every catalogue holds the same texts in both languages, all that code asks for, and nothing that nobody asks for."""

import re
from pathlib import Path
from string import Formatter

import pytest

from config.catalogue import LANGUAGES, Catalogue, fill, terminal_language, texts

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    ".".join(file.relative_to(ROOT).parts[:-2])
    for floor in ("coldchain", "gateway_agent", "collector", "alerting", "api", "core", "config")
    for file in sorted((ROOT / floor).rglob("text/zh-CN.toml"))
]
PATTERNS = "typer.pattern."
"""In English these hold what to look for, in Chinese what to say."""

SHORTER = {("core.alarms", "silent.bad_sensor")}
"""A field of a WeChat message takes 20 signs: English has no room for "again" there."""


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_the_catalogues_are_found() -> None:
    assert {"core.health", "core.alarms", "coldchain.demo", "coldchain.commands"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_both_languages_hold_the_same_texts_with_the_same_holes(package: str) -> None:
    chinese, english = (texts(package, language) for language in LANGUAGES)
    assert set(chinese) == set(english)
    for name, text in english.items():
        if not name.startswith(PATTERNS) and (package, name) not in SHORTER:
            assert holes(text) == holes(chinese[name]), name


@pytest.mark.parametrize("package", PACKAGES)
def test_what_code_asks_for_by_name_is_there(package: str) -> None:
    there = texts(package, "en")
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / package.replace(".", "/")).glob("*.py"))
    asked = set(re.findall(r'\bsay\(\s*"([a-zA-Z_0-9.-]+)"', source))
    assert asked <= set(there), asked - set(there)


PLURAL = re.compile(r"\{\w+:([^}|]+)\|([^}]+)\}")
COUNTED = {"alarms", "days", "hours", "messages", "minutes", "seconds", "shards", "steps"}
"""Nouns that are counted somewhere, beside those that have both forms in a catalogue."""


@pytest.mark.parametrize("package", PACKAGES)
def test_english_counts_one_thing_as_one_and_two_as_two(package: str) -> None:
    every = [text for each in PACKAGES for text in texts(each, "en").values()]
    plurals = COUNTED | {plural for text in every for _, plural in PLURAL.findall(text)}
    for name, text in texts(package, "en").items():
        if name.startswith(PATTERNS) or not holes(text) or name.endswith(".other"):
            continue  # a text named `other` stands beside one named `one`, and is never asked for one thing
        one, two = (fill(text, dict.fromkeys(holes(text), count)) for count in (1, 2))
        assert not [plural for plural in plurals if re.search(rf"\b1 {plural}\b", one)], f"{name}: {one}"
        for singular, plural in PLURAL.findall(text):
            assert f"1 {singular}" in one, f"{name}: {one}"
            assert f"2 {plural}" in two, f"{name}: {two}"


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh-CN"),
        ({"LANG": "zh"}, "zh-CN"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "zh_TW"}, "zh-CN"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh-CN"),
        ({}, "en"),
    ],
)
def test_the_terminals_language_is_that_of_its_locale(
    monkeypatch: pytest.MonkeyPatch, locale: dict[str, str], language: str
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert terminal_language() == language
    assert Catalogue("core.health")("screen.well") == texts("core.health", language)["screen.well"]  # type: ignore[index]
