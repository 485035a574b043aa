"""In which language a page speaks, and how times, ages and temperatures are written in it."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from core.ids import Centi
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant, Milliseconds, at_zone

LANGUAGES = ("zh-CN", "en")
_SPANS = (("days", DAY), ("hours", HOUR), ("minutes", MINUTE), ("seconds", SECOND))


class Words:
    """The texts of one language: `words("alarm.opened")`, placeholders filled from keyword arguments."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, name: str, /, **values: object) -> str:
        """Return a text.

        Raises: KeyError for one that the catalogue doesn't hold.
        """
        text = self._texts[name]
        return text.format(**values) if values else text

    def __contains__(self, name: str) -> bool:
        return name in self._texts

    def span(self, length: Milliseconds) -> str:
        """Write a length of time in its largest unit, a second one beside hours and days: 3 小时 12 分钟."""
        left = max(0, int(length))
        for i, (name, unit) in enumerate(_SPANS):
            if left >= unit or unit == SECOND:
                whole = self(f"unit.{name}", n=left // unit)
                finer_name, finer = _SPANS[min(i + 1, len(_SPANS) - 1)]
                rest = left % unit // finer
                return f"{whole} {self(f'unit.{finer_name}', n=rest)}" if rest and unit >= HOUR else whole
        raise AssertionError

    def counted(self, name: str, count: int) -> str:
        """Write a number of things: the catalogue holds `name.one` and `name.other`."""
        return self(f"{name}.one" if count == 1 else f"{name}.other", count=count)

    def ages(self) -> Mapping[str, str]:
        """Return the texts with which `watch.js` writes how old something has become."""
        return {"age": self("age"), **{name: self(f"unit.{name}") for name, _ in _SPANS}}

    def clock(self, when: Instant, zone: ZoneInfo, now: Instant | None = None, *, seconds: bool = False) -> str:
        """Write a moment on the site's clocks; its date too unless it is the day of `now`."""
        local = at_zone(when, zone)
        today = now is not None and at_zone(now, zone).date() == local.date()
        return local.strftime(("" if today else "%m-%d ") + ("%H:%M:%S" if seconds else "%H:%M"))

    def band(self, low: Centi | None, high: Centi | None) -> str:
        """Write the limits of a zone."""
        if low is not None and high is not None:
            return self("between", low=f"{low / 100:g}", high=f"{high / 100:g}")
        if high is not None:
            return self("at_most", high=f"{high / 100:g}")
        return self("at_least", low=f"{low / 100:g}") if low is not None else self("no_limits")

    @staticmethod
    def degrees(value: Centi) -> str:
        """Write a temperature without its unit, never rounded: 8.05 must not read as 8.0 or 8.1."""
        text = f"{value / 100:.2f}"
        return text.removesuffix("0")


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return the texts of a language by their full names, such as `alarm.opened`."""
    file = resources.files("api.pages").joinpath("words", f"{language}.toml")
    return dict(_flat(tomllib.loads(file.read_text("utf-8")), ""))


@cache
def words(language: str) -> Words:
    """Return the words of a language."""
    return Words(language)


def chosen(asked: str | None, kept: str | None, accepted: str | None) -> str:
    """Decide the language: what the address asks, what was asked before, what the browser prefers, Chinese."""
    for wish in (asked, kept):
        if wish in LANGUAGES:
            return wish
    for tag, _ in sorted(_preferences(accepted or ""), key=lambda one: -one[1]):
        for language in LANGUAGES:
            if tag.split("-")[0] == language.split("-")[0]:
                return language
    return LANGUAGES[0]


def _preferences(header: str) -> list[tuple[str, float]]:
    found = re.findall(r"([a-zA-Z]{1,8}(?:-[a-zA-Z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.\d{0,3})?))?", header[:200])
    return [(tag.lower(), float(weight or 1)) for tag, weight in found if weight == "" or float(weight) > 0]


def _flat(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
