"""Where the settings come from: one TOML file, and what a command line says in place of it.

A wrong one is refused with file, key, value and what would be right.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from config.describe import unwrap
from config.settings import Settings


class WrongSetting(Exception):
    """A setting that can't be used. Its text names file, key and value, and says what would be right."""


def load(path: Path | None, changed: Sequence[str] = ()) -> Settings:
    """Read `path`; without one, `coldchain.toml` of the current folder where there is one, else the defaults.

    Each of `changed`, such as "collector.shards=00-7f", stands in place of what the file says. Relative folders are
    taken from the file's own folder.
    Raises: WrongSetting.
    """
    if path is None:
        path = Path("coldchain.toml")
        if not path.exists():
            return anchored(_with(Settings(), changed), Path.cwd())
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        msg = f"{path}: no such file; `coldchain init` writes one to start from"
        raise WrongSetting(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not TOML: {error}"
        raise WrongSetting(msg) from error
    return anchored(_with(convert(raw, str(path)), changed), path.parent.resolve())


def convert(raw: dict[str, Any], source: str) -> Settings:
    """Turn a parsed file into settings.

    Raises: WrongSetting.
    """
    try:
        settings = msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        raise WrongSetting(_explain(raw, source, str(error))) from None
    try:
        ZoneInfo(settings.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        msg = f"{source}: timezone = {settings.timezone!r}: no such time zone; write it like 'Asia/Shanghai'"
        raise WrongSetting(msg) from None
    for network in settings.api.metrics:
        try:
            ip_network(network)
        except ValueError as error:
            msg = f"{source}: api.metrics has {network!r}: {error}; write it like '10.0.3.0/24'"
            raise WrongSetting(msg) from None
    if settings.collector.client_id.startswith("alerting"):
        # Two clients of one name throw each other out of a broker for ever.
        said = f"{source}: collector.client_id = {settings.collector.client_id!r}"
        msg = f"{said}: alerting workers are called so at the broker; let it begin otherwise, like 'collector-2'"
        raise WrongSetting(msg)
    return settings


def anchored(settings: Settings, folder: Path) -> Settings:
    """Return settings whose data folder is absolute. It isn't asked for: its disk may hang, and status must tell so."""
    return msgspec.structs.replace(settings, data_dir=os.path.normpath(folder / settings.data_dir))


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
            msg = f"--set {said}: write it like --set collector.shards=00-7f, with a setting that is one value"
            raise WrongSetting(msg)
        table[name] = _value(word, unwrap(_type_at([*above, name]))[0])
    return convert(raw, "--set")


def _value(word: str, kind: msgspec.inspect.Type) -> bool | float | str:
    """Read a word as what stands at a setting; as it is where it can't be, which is refused with the rest."""
    wanted = {msgspec.inspect.IntType: int, msgspec.inspect.FloatType: float, msgspec.inspect.BoolType: bool}
    try:
        return msgspec.convert(word, wanted.get(type(kind), str), strict=False)
    except msgspec.ValidationError:
        return word


def _explain(raw: dict[str, Any], source: str, problem: str) -> str:
    what, _, where = problem.partition(" - at `$")
    keys = re.findall(r"[^.\[\]`]+", where)
    shown = re.sub(r"^\.", "", where.rstrip("`"))
    unknown = re.search(r"unknown field `(.+)`", what)
    if unknown:
        full = f"{shown}.{unknown[1]}" if shown else unknown[1]
        known = _fields(keys)
        near = difflib.get_close_matches(unknown[1], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        return f"{source}: {full}: there is no such setting; {hint}"
    value: Any = raw
    for key in keys:
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return f"{source}: {shown}: {what}"
    right = unwrap(_type_at(keys))[1]
    return f"{source}: {shown or 'the file'} = {value!r}: {f'must be {right}' if right else what}"


def _type_at(keys: list[str]) -> msgspec.inspect.Type:
    """Return the type of what stands at a path of the settings; the nearest known one above where it ends."""
    kind: msgspec.inspect.Type = msgspec.inspect.type_info(Settings)
    for key in keys:
        kind = unwrap(kind)[0]
        if key.isdigit() and isinstance(kind, msgspec.inspect.ListType):
            kind = kind.item_type
        elif isinstance(kind, msgspec.inspect.StructType):
            kind = next((field.type for field in kind.fields if field.encode_name == key), kind)
    return kind


def _fields(keys: list[str]) -> list[str]:
    kind = unwrap(_type_at(keys))[0]
    return [field.encode_name for field in kind.fields] if isinstance(kind, msgspec.inspect.StructType) else []
