"""Type check of a settings file that reports all mistakes, each with its key, its value and what would be right.

msgspec stops at the first mistake. So each mistake that it reports is removed, or replaced by a valid value, and the
file is converted again.
"""

import copy
import difflib
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from config.settings_page import bare, kind_in_words
from config.texts import say

Path = list[str | int]
_SAMPLES = ("a", "1", "00-ff", "http://a")
"""Sample texts. For each required setting, one of them matches its pattern."""


def wrong_types(raw: dict[str, Any], kind: type[msgspec.Struct]) -> tuple[list[str], set[str]]:
    """Return the problems that the types of `kind` find in `raw`, and the paths of the wrong values."""
    repaired = copy.deepcopy(raw)
    problems: list[str] = []
    paths: set[str] = set()
    for number, path in _non_finite(repaired):
        problems.append(say("settings.no_number", key=_dotted(path), value=repr(number)))
        paths.add(_dotted(path))
        _put(repaired, path, 1.0)
    while True:
        try:
            msgspec.convert(repaired, kind)
        except msgspec.ValidationError as error:
            message, path = _split(str(error), repaired)
            dotted = _dotted(path)
            if dotted not in paths:
                problems.append(_explain(repaired, path, message, kind))
                paths.add(dotted)
            elif not _is_missing(repaired, path):
                break
            _repair(repaired, path, type_at(path, kind))
        else:
            break
    return problems, paths


def type_at(path: Path, kind: type[msgspec.Struct]) -> inspect.Type:
    """Return the type at a path of the settings; for an unknown path, that of the nearest known one above it."""
    current: inspect.Type = inspect.type_info(kind)
    for key in path:
        current = bare(current)
        if isinstance(key, int) and isinstance(current, inspect.ListType):
            current = current.item_type
        elif isinstance(current, inspect.DictType):
            current = current.value_type
        elif isinstance(current, inspect.StructType):
            current = next((field.type for field in current.fields if field.encode_name == key), current)
    return current


def _split(error: str, raw: dict[str, Any]) -> tuple[str, Path]:
    """Split an error of msgspec into message and path. The path includes a missing or unknown field."""
    message, _, where = error.partition(" - at `")
    path: Path = []
    for key in re.findall(r"\[\d+\]|\[\.\.\.\]|[^.\[\]`$]+", where):
        if key == "[...]":  # msgspec doesn't say which key of a table with keys of its own
            table = _value(raw, path)
            path.append(next(name for name, inner in table.items() if not isinstance(inner, str)))
        else:
            path.append(int(key[1:-1]) if key.startswith("[") else key)
    field = re.search(r"(?:unknown|required) field `(.+)`", message)
    return message, [*path, field[1]] if field else path


def _value(raw: dict[str, Any], path: Path) -> Any:  # noqa: ANN401 (as parsed)
    value: Any = raw
    for key in path:
        value = value[key]
    return value


def _explain(raw: dict[str, Any], path: Path, message: str, kind: type[msgspec.Struct]) -> str:
    dotted = _dotted(path)
    if "unknown field" in message:
        known = _fields(path[:-1], kind)
        similar = difflib.get_close_matches(str(path[-1]), known, 1)
        if similar:
            return say("settings.unknown", key=dotted, near=repr(similar[0]))
        return say("settings.unknown_all", key=dotted, known=", ".join(sorted(known)))
    if "required field" in message:
        return say("settings.missing", key=dotted, right=kind_in_words(bare(type_at(path, kind))))
    value = _value(raw, path)
    right = kind_in_words(bare(type_at(path, kind)))
    if not right:
        return say("settings.wrong", key=dotted or "-", value=repr(value), problem=message)
    return say("settings.must_be", key=dotted, value=repr(value), right=right)


def _fields(path: Path, kind: type[msgspec.Struct]) -> list[str]:
    section = bare(type_at(path, kind))
    return [field.encode_name for field in section.fields] if isinstance(section, inspect.StructType) else []


def _repair(raw: dict[str, Any], path: Path, kind: inspect.Type) -> None:
    """Remove a wrong value, or put a valid one in its place if one is required."""
    last = path[-1]
    parent = _value(raw, path[:-1])
    if isinstance(parent, list):
        parent[int(last)] = _sample(kind)
    elif last in parent:
        del parent[last]
    else:
        parent[last] = _sample(kind)


def _is_missing(raw: dict[str, Any], path: Path) -> bool:
    """Return whether a value is missing, since it was wrong and removed, so that a sample can take its place."""
    parent = _value(raw, path[:-1])
    return isinstance(parent, dict) and path[-1] not in parent


def _sample(kind: inspect.Type) -> object:
    kind = bare(kind)
    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    if isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.TupleType):
        return [_sample(item) for item in getattr(kind, "item_types", ())]
    if isinstance(kind, inspect.DictType | inspect.StructType):
        return {}
    if isinstance(kind, inspect.StrType):
        return next((text for text in _SAMPLES if re.search(kind.pattern or "", text)), "")
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return kind.ge if kind.ge is not None else (kind.gt or 0) + 1
    return False


def _non_finite(value: Any, path: Path | None = None) -> Iterator[tuple[float, Path]]:  # noqa: ANN401 (as parsed)
    """Yield each `nan` and `inf`, which TOML allows as numbers, with its path."""
    here = path or []
    if isinstance(value, float) and not math.isfinite(value):
        yield value, here
    elif isinstance(value, dict | list):
        items: Any = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _non_finite(inner, [*here, key])


def _put(raw: dict[str, Any], path: Path, value: object) -> None:
    _value(raw, path[:-1])[path[-1]] = value


def _dotted(path: Path) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
