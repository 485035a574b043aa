"""Generator of docs/settings.md and docs/settings.zh-CN.md: every setting with its type, default and meaning.

`python -m config.settings_page en > docs/settings.md` writes the English page, `zh-CN > docs/settings.zh-CN.md` the
Chinese one; tests/unit/test_settings.py fails if one isn't up to date.
"""

import sys
from collections.abc import Iterator

import msgspec
from msgspec import inspect

from config.catalogue import LANGUAGES, Language
from config.settings import Settings
from config.texts import say


def page(language: Language) -> str:
    """Return the page in a language."""
    return "\n".join([say("page.head", language), *_tables(Settings, "", language)]) + "\n"


def _tables(section: type[msgspec.Struct], prefix: str, language: Language) -> Iterator[str]:
    kind = inspect.type_info(section)
    assert isinstance(kind, inspect.StructType)  # noqa: S101 (a setting is a struct)
    title = f"`[{prefix}]`" if prefix else say("page.top", language)
    if prefix.endswith("s") and prefix.count(".") and prefix.rsplit(".", 1)[1] in {"gateways", "buses", "units"}:
        title = f"`[[{prefix}]]`"
    yield f"## {title}\n"
    yield say(f"section.{prefix or 'top'}", language) + "\n"
    yield f"{say('page.columns', language)}\n|---|---|---|---|"
    nested = []
    for field in kind.fields:
        inner = bare(field.type)
        section_below = _struct_of(inner)
        name = f"{prefix}.{field.encode_name}" if prefix else field.encode_name
        if section_below is not None:
            nested.append((section_below, name))
            continue
        meaning = say(f"meaning.{name}", language)
        default = _default(field, language)
        yield f"| `{field.encode_name}` | {kind_in_words(inner, language)} | {default} | {meaning} |"
    yield ""
    for section_below, name in nested:
        yield from _tables(section_below, name, language)


def bare(kind: inspect.Type) -> inspect.Type:
    """Return the type of a setting without its metadata."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def kind_in_words(kind: inspect.Type, language: Language | None = None) -> str:
    """Return the words for a type; empty for one without words, such as a table of settings."""
    if isinstance(kind, inspect.LiteralType):
        return say("kind.or", language).join(f'"{value}"' for value in kind.values)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.TupleType):
        return say("kind.list", language)
    if isinstance(kind, inspect.DictType):
        return say("kind.table", language)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        bounds = [
            say(f"kind.{name}", language, bound=getattr(kind, name))
            for name in ("ge", "gt", "le", "lt")
            if getattr(kind, name) is not None
        ]
        number = say("kind.whole" if isinstance(kind, inspect.IntType) else "kind.number", language)
        return " ".join([number, *bounds])
    if isinstance(kind, inspect.StrType):
        return (
            say("kind.pattern", language, pattern=kind.pattern).replace("|", "\\|")
            if kind.pattern
            else say("kind.text", language)
        )
    return say("kind.bool", language) if isinstance(kind, inspect.BoolType) else ""


def _struct_of(kind: inspect.Type) -> type[msgspec.Struct] | None:
    if isinstance(kind, inspect.StructType):
        return kind.cls
    if isinstance(kind, inspect.ListType):
        return _struct_of(kind.item_type)
    return None


def _default(field: inspect.Field, language: Language) -> str:
    if field.required:
        return say("page.required", language)
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, str | bool | int | float):
        return f"`{str(value).lower() if isinstance(value, bool) else repr(value)}`".replace("'", '"')
    return f"`{list(value)!r}`".replace("'", '"')


if __name__ == "__main__":
    argument = sys.argv[1] if len(sys.argv) > 1 else "en"
    sys.stdout.write(page(next(language for language in LANGUAGES if language == argument)))
