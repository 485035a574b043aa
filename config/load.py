"""Where the settings come from: one TOML file, and what a command line says in place of it.

A wrong one is refused with file, key, value and what would be right, and all wrong ones at once.
"""

import os
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from config.catalogue import terminal_language
from config.describe import bare
from config.mistakes import type_at, wrong_types
from config.settings import Settings
from config.text_file import UnreadableFile, decode, parse_toml
from config.words import say


class WrongSetting(Exception):
    """A setting that can't be used. Its text names file, key and value, and says what would be right."""


def load(path: Path | None, changed: Sequence[str] = ()) -> Settings:
    """Read `path`; without one, `coldchain.toml` of the current folder.

    Each of `changed`, such as "collector.shards=00-7f", stands in place of what the file says. Relative folders are
    taken from the file's own folder.
    Raises: WrongSetting, also when there is no file: an installation that is made up of defaults in whatever folder one
    stands would be another than the one that was meant.
    """
    given = path is not None
    path = path or Path("coldchain.toml")
    try:
        raw = parse_toml(decode(path.read_bytes(), str(path)), str(path))
    except FileNotFoundError:
        text = say("settings.no_file", file=path) if given else say("settings.no_file_here", folder=Path.cwd())
        raise WrongSetting(text) from None
    except OSError as error:
        raise WrongSetting(say("settings.unreadable", file=path, problem=error.strerror)) from None
    except UnreadableFile as error:
        raise WrongSetting(error.text(terminal_language())) from None
    return anchored(_with(convert(raw, str(path)), changed), path.parent.resolve())


def convert(raw: dict[str, Any], source: str) -> Settings:
    """Turn a parsed file into settings.

    Raises: WrongSetting, with all that is wrong, each in a line of its own.
    """
    told, paths = wrong_types(raw, Settings)
    told += [problem for key, problem in _contradictions(raw) if key not in paths]
    if told:
        raise WrongSetting("\n".join(f"{source}: {each}" for each in told))
    return msgspec.convert(raw, Settings)


def _contradictions(raw: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key and the problem of what the types alone can't refuse; `raw` may be wrong otherwise too."""

    def given(section: str, name: str) -> object:
        table = raw.get(section)
        return table.get(name) if isinstance(table, dict) else None

    timezone = raw.get("timezone")
    if isinstance(timezone, str) and not _is_time_zone(timezone):
        yield "timezone", say("settings.timezone", value=repr(timezone))
    networks = given("api", "metrics")
    for network in networks if isinstance(networks, list | tuple) else ():
        try:
            ip_network(network)
        except ValueError as error:
            yield "api.metrics", say("settings.network", value=repr(network), problem=error)
    client_id = given("collector", "client_id")
    if isinstance(client_id, str) and client_id.startswith("alerting"):
        # Two clients of one name throw each other out of a broker for ever.
        yield "collector.client_id", say("settings.client_id", value=repr(client_id))


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def anchored(settings: Settings, folder: Path) -> Settings:
    """Return settings whose folders are absolute. They aren't asked for: a disk may hang, and status must tell so."""
    agent = msgspec.structs.replace(settings.agent, profiles=os.path.normpath(folder / settings.agent.profiles))
    return msgspec.structs.replace(settings, data_dir=os.path.normpath(folder / settings.data_dir), agent=agent)


def _with(settings: Settings, changed: Sequence[str]) -> Settings:
    """Return settings in which what a command line says stands; its words are taken as what the setting is."""
    if not changed:
        return settings
    raw: dict[str, Any] = msgspec.to_builtins(settings)
    for said in changed:
        key, equals, word = said.partition("=")
        *above, name = key.strip().split(".")
        table: Any = raw
        for part in above:
            table = table.get(part) if isinstance(table, dict) else None
        if not equals or not isinstance(table, dict) or isinstance(table.get(name), dict | list):
            raise WrongSetting(say("settings.set", said=said))
        table[name] = _value(word, bare(type_at([*above, name], Settings)))
    return convert(raw, "--set")


def _value(word: str, kind: msgspec.inspect.Type) -> bool | float | str:
    """Read a word as what stands at a setting; as it is where it can't be, which is refused with the rest."""
    wanted = {msgspec.inspect.IntType: int, msgspec.inspect.FloatType: float, msgspec.inspect.BoolType: bool}
    try:
        return msgspec.convert(word, wanted.get(type(kind), str), strict=False)
    except msgspec.ValidationError:
        return word
