"""Loader of the settings: one TOML file, and values of the command line that override it.

All wrong settings are reported at once, each with file, key, value and what would be right.
tests/unit/test_settings.py tries to break it.
"""

import os
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from config.catalogue import terminal_language
from config.setting_mistakes import type_at, wrong_types
from config.settings import Settings
from config.settings_page import bare
from config.text_file import UnreadableFile, decode, parse_toml
from config.texts import say


class InvalidSetting(Exception):
    """Settings that can't be used. The text names file, key and value of each, and says what would be right."""


def load_settings(path: Path | None, changed: Sequence[str] = ()) -> Settings:
    """Load the settings from `path`, or from `coldchain.toml` of the current folder.

    Each of `changed`, such as "collector.shards=00-7f", overrides the file. Relative folders are relative to the folder
    of the file.
    Raises: InvalidSetting, also if there is no file, since defaults in some other folder would be another installation
    than the one that was meant.
    """
    is_given = path is not None
    path = path or Path("coldchain.toml")
    try:
        raw = parse_toml(decode(path.read_bytes(), str(path)), str(path))
    except FileNotFoundError:
        text = say("settings.no_file", file=path) if is_given else say("settings.no_file_here", folder=Path.cwd())
        raise InvalidSetting(text) from None
    except OSError as error:
        raise InvalidSetting(say("settings.unreadable", file=path, problem=error.strerror)) from None
    except UnreadableFile as error:
        raise InvalidSetting(error.text(terminal_language())) from None
    return anchored(_with(convert(raw, str(path)), changed), path.parent.resolve())


def convert(raw: dict[str, Any], source: str) -> Settings:
    """Convert a parsed file to settings.

    Raises: InvalidSetting, with every mistake in a line of its own.
    """
    problems, paths = wrong_types(raw, Settings)
    problems += [problem for key, problem in _contradictions(raw) if key not in paths]
    if problems:
        raise InvalidSetting("\n".join(f"{source}: {problem}" for problem in problems))
    return msgspec.convert(raw, Settings)


def _contradictions(raw: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key and the problem of mistakes that types alone can't find; `raw` may have wrong types too."""

    def value_of(section: str, name: str) -> object:
        table = raw.get(section)
        return table.get(name) if isinstance(table, dict) else None

    timezone = raw.get("timezone")
    if isinstance(timezone, str) and not _is_time_zone(timezone):
        yield "timezone", say("settings.timezone", value=repr(timezone))
    networks = value_of("api", "metrics")
    for network in networks if isinstance(networks, list | tuple) else ():
        try:
            ip_network(network)
        except ValueError as error:
            yield "api.metrics", say("settings.network", value=repr(network), problem=error)
    client_id = value_of("collector", "client_id")
    if isinstance(client_id, str) and client_id.startswith("alerting"):
        # Two clients with the same id disconnect each other from the broker for ever.
        yield "collector.client_id", say("settings.client_id", value=repr(client_id))


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def anchored(settings: Settings, folder: Path) -> Settings:
    """Return settings with absolute folders, without accessing the disk: it may hang, and status must report that."""
    agent = msgspec.structs.replace(settings.agent, profiles=os.path.normpath(folder / settings.agent.profiles))
    data_dir, tables = (os.path.normpath(folder / path) for path in (settings.data_dir, settings.tables))
    return msgspec.structs.replace(settings, data_dir=data_dir, tables=tables, agent=agent)


def _with(settings: Settings, changed: Sequence[str]) -> Settings:
    """Return settings with overrides of the command line, whose words are converted to the setting's type."""
    if not changed:
        return settings
    raw: dict[str, Any] = msgspec.to_builtins(settings)
    for override in changed:
        key, equals, word = override.partition("=")
        *sections, name = key.strip().split(".")
        table: Any = raw
        for section in sections:
            table = table.get(section) if isinstance(table, dict) else None
        if not equals or not isinstance(table, dict) or isinstance(table.get(name), dict | list):
            raise InvalidSetting(say("settings.set", said=override))
        table[name] = _parse(word, bare(type_at([*sections, name], Settings)))
    return convert(raw, "--set")


def _parse(word: str, kind: msgspec.inspect.Type) -> bool | float | str:
    """Convert a word to the type of a setting. If it can't be converted, return it unchanged; `convert` refuses it."""
    types = {msgspec.inspect.IntType: int, msgspec.inspect.FloatType: float, msgspec.inspect.BoolType: bool}
    try:
        return msgspec.convert(word, types.get(type(kind), str), strict=False)
    except msgspec.ValidationError:
        return word
