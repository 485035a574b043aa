"""Words of the pages: the reader's language, and its texts, times, ages and temperatures."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from config.catalogue import Language
from core.ids import Centi
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant, Milliseconds, at_zone

LANGUAGES: tuple[Language, ...] = ("zh-CN", "en")
_SPANS = (("days", DAY), ("hours", HOUR), ("minutes", MINUTE), ("seconds", SECOND))


class Texts:
    """Texts of one language: `words("alarm.opened")`, placeholders filled from keyword arguments."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, name: str, /, **values: object) -> str:
        """Return a text.

        Raises: KeyError for a name that the catalogue doesn't hold.
        """
        text = self._texts[name]
        return text.format(**values) if values else text

    def __contains__(self, name: str) -> bool:
        return name in self._texts

    def span(self, length: Milliseconds) -> str:
        """Return a length of time in its largest unit, with the next one for hours and days: 3 小时 12 分钟."""
        remaining = max(0, int(length))
        for i, (name, unit) in enumerate(_SPANS):
            if remaining >= unit or unit == SECOND:
                units = self(f"unit.{name}", n=remaining // unit)
                finer_name, finer = _SPANS[min(i + 1, len(_SPANS) - 1)]
                rest = remaining % unit // finer
                return f"{units} {self(f'unit.{finer_name}', n=rest)}" if rest and unit >= HOUR else units
        raise AssertionError

    def counted(self, name: str, count: int) -> str:
        """Return a number of things: the catalogue holds `name.one` and `name.other`."""
        return self(f"{name}.one" if count == 1 else f"{name}.other", count=count)

    def ages(self) -> Mapping[str, str]:
        """Return the texts with which `watch.js` writes the age of a figure."""
        return {"age": self("age"), **{name: self(f"unit.{name}") for name, _ in _SPANS}}

    def clock(self, when: Instant, zone: ZoneInfo, now: Instant | None = None, *, seconds: bool = False) -> str:
        """Return a moment on the site's clocks, with its date unless it is the day of `now`."""
        local = at_zone(when, zone)
        today = now is not None and at_zone(now, zone).date() == local.date()
        return local.strftime(("" if today else "%m-%d ") + ("%H:%M:%S" if seconds else "%H:%M"))

    def band(self, low: Centi | None, high: Centi | None) -> str:
        """Return the limits of a zone as text."""
        if low is not None and high is not None:
            return self("between", low=f"{low / 100:g}", high=f"{high / 100:g}")
        if high is not None:
            return self("at_most", high=f"{high / 100:g}")
        return self("at_least", low=f"{low / 100:g}") if low is not None else self("no_limits")

    @staticmethod
    def degrees(value: Centi) -> str:
        """Return a temperature without its unit, never rounded: 8.05 must not read as 8.0 or 8.1."""
        text = f"{value / 100:.2f}"
        return text.removesuffix("0")


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return the texts of a language by their full names, such as `alarm.opened`."""
    file = resources.files("api.pages").joinpath("text", f"{language}.toml")
    return dict(_flat(tomllib.loads(file.read_text("utf-8")), ""))


@cache
def words(language: Language) -> Texts:
    """Return the words of a language."""
    return Texts(language)


def chosen(requested: str | None, remembered: str | None, accepted: str | None) -> Language:
    """Return the language: of the address, else of the cookie, else the browser's preference, else Chinese."""
    for language in LANGUAGES:
        if requested == language:
            return language
    for language in LANGUAGES:
        if remembered == language:
            return language
    for tag, _ in sorted(_preferences(accepted or ""), key=lambda preference: -preference[1]):
        for language in LANGUAGES:
            if tag.split("-")[0] == language.split("-")[0]:
                return language
    return LANGUAGES[0]


def _preferences(header: str) -> list[tuple[str, float]]:
    tags = re.findall(r"([a-zA-Z]{1,8}(?:-[a-zA-Z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.\d{0,3})?))?", header[:200])
    return [(tag.lower(), float(weight or 1)) for tag, weight in tags if weight == "" or float(weight) > 0]


def _flat(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
