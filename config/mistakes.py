"""Mistakes in a settings file: all of them, each with its key, its value and what would be right.

msgspec stops at the first. So each one that it names is taken out, or replaced by something that could stand there, and
the rest is looked at again.
"""

import copy
import difflib
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from config.describe import bare, kind_in_words
from config.words import say

Path = list[str | int]
_SAMPLES = ("a", "1", "00-ff", "http://a")
"""Texts of which one fits the pattern of each setting that must be given."""


def wrong_types(raw: dict[str, Any], kind: type[msgspec.Struct]) -> tuple[list[str], set[str]]:
    """Return what the types of the settings refuse, and the paths of what is wrong."""
    left = copy.deepcopy(raw)
    told: list[str] = []
    paths: set[str] = set()
    for number, path in _without_number(left):
        told.append(say("settings.no_number", key=_shown(path), value=repr(number)))
        paths.add(_shown(path))
        _put(left, path, 1.0)
    while True:
        try:
            msgspec.convert(left, kind)
        except msgspec.ValidationError as error:
            what, path = _split(str(error), left)
            shown = _shown(path)
            if shown not in paths:
                told.append(_explain(left, path, what, kind))
                paths.add(shown)
            elif not _can_be_left(left, path):
                break
            _mend(left, path, type_at(path, kind))
        else:
            break
    return told, paths


def type_at(path: Path, kind: type[msgspec.Struct]) -> inspect.Type:
    """Return the type of what stands at a path of the settings; the nearest known one above where it ends."""
    found: inspect.Type = inspect.type_info(kind)
    for key in path:
        found = bare(found)
        if isinstance(key, int) and isinstance(found, inspect.ListType):
            found = found.item_type
        elif isinstance(found, inspect.DictType):
            found = found.value_type
        elif isinstance(found, inspect.StructType):
            found = next((field.type for field in found.fields if field.encode_name == key), found)
    return found


def _split(error: str, raw: dict[str, Any]) -> tuple[str, Path]:
    """Return what msgspec said, and the path to what it is about, which includes a field that lacks or is unknown."""
    what, _, where = error.partition(" - at `")
    path: Path = []
    for key in re.findall(r"\[\d+\]|\[\.\.\.\]|[^.\[\]`$]+", where):
        if key == "[...]":  # msgspec doesn't say which key of a table with keys of its own
            table = _value(raw, path)
            path.append(next(name for name, inner in table.items() if not isinstance(inner, str)))
        else:
            path.append(int(key[1:-1]) if key.startswith("[") else key)
    field = re.search(r"(?:unknown|required) field `(.+)`", what)
    return what, [*path, field[1]] if field else path


def _value(raw: dict[str, Any], path: Path) -> Any:  # noqa: ANN401 (as parsed)
    value: Any = raw
    for key in path:
        value = value[key]
    return value


def _explain(raw: dict[str, Any], path: Path, what: str, kind: type[msgspec.Struct]) -> str:
    shown = _shown(path)
    if "unknown field" in what:
        known = _fields(path[:-1], kind)
        near = difflib.get_close_matches(str(path[-1]), known, 1)
        if near:
            return say("settings.unknown", key=shown, near=repr(near[0]))
        return say("settings.unknown_all", key=shown, known=", ".join(sorted(known)))
    if "required field" in what:
        return say("settings.missing", key=shown, right=kind_in_words(bare(type_at(path, kind))))
    value = _value(raw, path)
    right = kind_in_words(bare(type_at(path, kind)))
    if not right:
        return say("settings.wrong", key=shown or "-", value=repr(value), problem=what)
    return say("settings.must_be", key=shown, value=repr(value), right=right)


def _fields(path: Path, kind: type[msgspec.Struct]) -> list[str]:
    found = bare(type_at(path, kind))
    return [field.encode_name for field in found.fields] if isinstance(found, inspect.StructType) else []


def _mend(raw: dict[str, Any], path: Path, kind: inspect.Type) -> None:
    """Take out what is wrong; where something must stand, put something that may."""
    last = path[-1]
    place = _value(raw, path[:-1])
    if isinstance(place, list):
        place[int(last)] = _sample(kind)
    elif last in place:
        del place[last]
    else:
        place[last] = _sample(kind)


def _can_be_left(raw: dict[str, Any], path: Path) -> bool:
    """Whether what lacks because it was wrong can still be made up for; else the rest can't be looked at."""
    place = _value(raw, path[:-1])
    return isinstance(place, dict) and path[-1] not in place


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


def _without_number(value: Any, path: Path | None = None) -> Iterator[tuple[float, Path]]:  # noqa: ANN401 (as parsed)
    """Yield what TOML calls a number and none is: `nan` and `inf`, with its path."""
    here = path or []
    if isinstance(value, float) and not math.isfinite(value):
        yield value, here
    elif isinstance(value, dict | list):
        items: Any = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _without_number(inner, [*here, key])


def _put(raw: dict[str, Any], path: Path, value: object) -> None:
    _value(raw, path[:-1])[path[-1]] = value


def _shown(path: Path) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
