"""Message catalogue of a package, in Chinese and English: its `text/zh-CN.toml` and `text/en.toml`.

A terminal gets the language of its locale. tests/unit/test_catalogues.py checks that every catalogue is complete.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any, Literal

Language = Literal["zh-CN", "en"]
LANGUAGES: tuple[Language, ...] = ("zh-CN", "en")


def terminal_language() -> Language:
    """Return the language of the terminal: Chinese for a Chinese locale, else English."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh-CN" if locale.startswith("zh") else "en"


class Catalogue:
    """Texts of one package: `say(name, path=…)` fills the placeholders of a text."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __call__(self, name: str, /, language: Language | None = None, **values: object) -> str:
        """Return a text, in the terminal's language unless another is asked for.

        Raises: KeyError for one that the catalogue doesn't hold.
        """
        text = texts(self.package, language or terminal_language())[name]
        return fill(text, values) if values else text

    def section(self, name: str, language: Language | None = None) -> Mapping[str, str]:
        """Return the texts below a name, by the rest of their names."""
        held = texts(self.package, language or terminal_language())
        return {key.removeprefix(f"{name}."): text for key, text in held.items() if key.startswith(f"{name}.")}


class _Filler(Formatter):
    def format_field(self, value: object, format_spec: str) -> str:
        one, plural, other = format_spec.partition("|")
        if plural:
            return f"{value} {one if value == 1 else other}"
        return str(super().format_field(value, format_spec))


_filler = _Filler()


def fill(text: str, values: Mapping[str, Any]) -> str:
    """Fill the placeholders of a text; of a number, `{count:row|rows}` is "1 row" or "2 rows".

    Raises: KeyError for a value that is missing.
    """
    return _filler.vformat(text, (), values)


@cache
def texts(package: str, language: Language) -> Mapping[str, str]:
    """Return the texts of a package by their full names, such as `check.folder.full`."""
    file = resources.files(package).joinpath("text", f"{language}.toml")
    return dict(_flat(tomllib.loads(file.read_text("utf-8")), ""))


def _flat(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
