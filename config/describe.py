"""What docs/settings.md says: every setting with its kind, default and meaning, written from the settings themselves.

`python -m config.describe > docs/settings.md` renews the page; a test fails when it isn't up to date.
"""

import sys
from collections.abc import Iterator

import msgspec
from msgspec import inspect

from config.settings import Settings

_HEAD = """# Settings

One file, `coldchain.toml`, or the one that `--config` names. Every setting has a default, so an empty file is a good
one; a wrong or unknown setting is refused at start with its file, key and value. Secrets are not here: `coldchain init`
writes them to `secrets.json` in the data folder. `coldchain check` tests a file and every connection it names.

A service takes single settings from its command line too, in place of the file's, so that several of one kind share a
file: `coldchain collector --set collector.client_id=collector-2 --set collector.shards=80-ff`.
"""


def page() -> str:
    """Return docs/settings.md."""
    return "\n".join([_HEAD, *_tables(Settings, "")]) + "\n"


def _tables(section: type[msgspec.Struct], prefix: str) -> Iterator[str]:
    kind = inspect.type_info(section)
    assert isinstance(kind, inspect.StructType)  # noqa: S101 (a setting is a struct)
    title = f"`[{prefix}]`" if prefix else "At the top"
    if prefix.endswith("s") and prefix.count(".") and prefix.rsplit(".", 1)[1] in {"gateways", "buses", "units"}:
        title = f"`[[{prefix}]]`"
    yield f"## {title}\n"
    yield f"{(section.__doc__ or '').strip()}\n"
    yield "| setting | kind | default | meaning |\n|---|---|---|---|"
    nested = []
    for field in kind.fields:
        inner, words, meaning = unwrap(field.type)
        below = _struct_of(inner)
        if below is not None:
            nested.append((below, f"{prefix}.{field.encode_name}" if prefix else field.encode_name))
            continue
        yield f"| `{field.encode_name}` | {words} | {_default(field)} | {meaning} |"
    yield ""
    for below, name in nested:
        yield from _tables(below, name)


def unwrap(kind: inspect.Type) -> tuple[inspect.Type, str, str]:
    """Return a setting's bare type, the words for what may stand there, and its meaning."""
    meaning: list[str] = []
    while isinstance(kind, inspect.Metadata):
        text = (kind.extra_json_schema or {}).get("description")
        if text:
            meaning.append(str(text))
        kind = kind.type
    return kind, _words(kind), "; ".join(meaning)


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in kind.values)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return "list"
    if isinstance(kind, inspect.DictType):
        return "table"
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        bounds = [
            f"{word} {bound}"
            for word, bound in (("from", kind.ge), ("above", kind.gt), ("to", kind.le), ("below", kind.lt))
            if bound is not None
        ]
        return " ".join(["whole number" if isinstance(kind, inspect.IntType) else "number", *bounds])
    if isinstance(kind, inspect.StrType):
        return f"text like {kind.pattern}".replace("|", "\\|") if kind.pattern else "text"
    return "true or false" if isinstance(kind, inspect.BoolType) else ""


def _struct_of(kind: inspect.Type) -> type[msgspec.Struct] | None:
    if isinstance(kind, inspect.StructType):
        return kind.cls
    if isinstance(kind, inspect.ListType):
        return _struct_of(kind.item_type)
    return None


def _default(field: inspect.Field) -> str:
    if field.required:
        return "must be given"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, str | bool | int | float):
        return f"`{str(value).lower() if isinstance(value, bool) else repr(value)}`".replace("'", '"')
    return f"`{list(value)!r}`".replace("'", '"')


if __name__ == "__main__":
    sys.stdout.write(page())
