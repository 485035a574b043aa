"""How a trouble is told to a person: what is wrong, what happens meanwhile, and what to do, in Chinese or English.

A stranger (readiness answers anybody) gets the same sentence without addresses and without what a program underneath
said, which may have names and paths in it.
"""

import os
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal

from core.runtime.trouble import Trouble

Language = Literal["zh-CN", "en"]
LANGUAGES: tuple[Language, ...] = ("zh-CN", "en")
Texts = Mapping[str, Mapping[str, str]]
_SERVICES = ("collector", "alerting", "api")
"""Of which several may run; the name of each begins with what it is, and the command is called that."""
_OUR_WORDS = ("audit",)
"""Parts whose detail is composed by us and names nobody."""


@cache
def texts(language: Language) -> Texts:
    """Return the catalogue of a language."""
    file = resources.files("core.health").joinpath("text", f"{language}.toml")
    return tomllib.loads(file.read_text("utf-8"))


def terminal_language() -> Language:
    """Return the language of the terminal: Chinese for a Chinese locale, else English."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh-CN" if locale.startswith("zh") else "en"


def wrong(trouble: Trouble, language: Language = "en") -> str:
    """Return what is wrong."""
    catalogue = texts(language)
    part = catalogue["part"].get(trouble.part, trouble.part)
    return catalogue["wrong"][trouble.kind].format(part=part)


def advice(trouble: Trouble, language: Language = "en") -> str:
    """Return what happens meanwhile, where that isn't plain, and what to do."""
    catalogue = texts(language)
    meanwhile = catalogue["meanwhile"].get(trouble.part, "")
    command = next((service for service in _SERVICES if trouble.part.startswith(f"{service}-")), trouble.part)
    mend = catalogue["mend"][trouble.kind].format(service=command, process=trouble.part)
    between = "。" if language == "zh-CN" else "; "
    return between.join(filter(None, (meanwhile, mend)))


def public(trouble: Trouble) -> str:
    """Return all that a stranger may know, in one line."""
    own = f" ({trouble.detail})" if trouble.part in _OUR_WORDS else ""
    return f"{wrong(trouble)}{own}: {advice(trouble)}"
