"""Values of states are never written as bare strings: code compares, sets and defaults states with their enum.

A state is a column of the records whose type is a `StrEnum`, or a field or argument annotated with such an enum or with
one of a module `states`.
"""

import ast
import importlib
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Enum

from core.migrations.all_tables import METADATA

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "alerting", "collector", "api", "coldchain", "gateway_agent")
States = Mapping[str, frozenset[str]]
"""Values that a bare string must not have, by the name of the state."""


@cache
def modules() -> Mapping[str, ast.Module]:
    """Return the parsed modules of all packages by their path; migrations keep what the values were."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths if "versions" not in path.parts}


def state_enums(found: Mapping[str, ast.Module]) -> Mapping[str, type[StrEnum]]:
    """Return the enums of the records' columns and of all modules `states`, by name."""
    types = (column.type for table in METADATA.tables.values() for column in table.columns)
    enums = {kind.enum_class for kind in types if isinstance(kind, Enum) and kind.enum_class is not None}
    for path in found:
        if path.endswith("/states.py"):
            module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
            enums |= {
                value
                for value in vars(module).values()
                if isinstance(value, type) and issubclass(value, StrEnum) and value is not StrEnum
            }
    return {enum.__name__: enum for enum in enums if issubclass(enum, StrEnum)}


def states_of(found: Mapping[str, ast.Module], enums: Mapping[str, type[StrEnum]]) -> States:
    """Return the names that are annotated with an enum of a state, with its values."""
    states: dict[str, frozenset[str]] = {}

    def note(name: str, annotation: ast.expr | None) -> None:
        names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} if annotation else set()
        for enum in names & enums.keys():
            states[name] = states.get(name, frozenset()) | frozenset(enums[enum])

    for module in found.values():
        for node in ast.walk(module):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                note(node.target.id, node.annotation)
            elif isinstance(node, ast.arg):
                note(node.arg, node.annotation)
    return states


def bare_strings(module: ast.Module, states: States) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each bare string that stands where a state does."""
    for node in ast.walk(module):
        for name, value in _meetings(node):
            for literal in _literals(value):
                if literal.value in states.get(name, ()):
                    yield literal.lineno, f"{name}: {literal.value!r}"


def _meetings(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield the pairs of a name and an expression that meet in a comparison, an assignment, a default or a call."""
    yield from _compared(node)
    match node:
        case ast.Assign():
            yield from (pair for target in node.targets for pair in _assigned(target, node.value))
        case ast.AnnAssign(value=ast.expr() as value):
            yield from ((name, value) for name in _names(node.target))
        case ast.Dict():
            keys_values = zip(node.keys, node.values, strict=True)
            yield from ((str(key.value), value) for key, value in keys_values if isinstance(key, ast.Constant))
        case ast.arguments():
            yield from _defaults(node)
        case ast.keyword(arg=str() as name):
            yield name, node.value


def _compared(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare():
            for left, right in pairwise([node.left, *node.comparators]):
                yield from ((name, right) for name in _names(left))
                yield from ((name, left) for name in _names(right))
        case ast.Match():
            yield from ((name, case.pattern) for name in _names(node.subject) for case in node.cases)
        case ast.Call(func=ast.Attribute(attr="in_" | "not_in" | "is_" | "is_not") as method):
            yield from ((name, argument) for name in _names(method.value) for argument in node.args)


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, ast.AST]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [*zip(reversed(positional), reversed(arguments.defaults), strict=False)]
    for argument, default in [*defaults, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        if default is not None:
            yield argument.arg, default


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its_value in zip(target.elts, value.elts, strict=False):
            yield from _assigned(one, its_value)
    elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
        yield str(target.slice.value), value
    else:
        yield from ((name, value) for name in _names(target))


def _names(node: ast.expr) -> Iterable[str]:
    match node:
        case ast.Name():
            return (node.id,)
        case ast.Attribute():
            return (node.attr,)
        case ast.Tuple():
            return tuple(name for one in node.elts for name in _names(one))
        case _:
            return ()


def _literals(node: ast.AST) -> Iterator[ast.Constant]:
    """Yield the strings that an expression may have as its value, as one of its elements, or as a column's default."""
    match node:
        case ast.Constant(value=str()):
            yield node
        case ast.Call():
            defaults = (keyword.value for keyword in node.keywords if keyword.arg in {"default", "server_default"})
            yield from (literal for default in defaults for literal in _literals(default))
        case ast.Tuple() | ast.List() | ast.Set() | ast.IfExp() | ast.BoolOp() | ast.MatchValue() | ast.MatchOr():
            yield from (literal for child in ast.iter_child_nodes(node) for literal in _literals(child))


@pytest.fixture(scope="module")
def states() -> States:
    found = modules()
    return states_of(found, state_enums(found))


def test_no_value_of_a_state_is_a_bare_string(states: States) -> None:
    found = [
        f"{path}:{line}: {what}" for path, module in modules().items() for line, what in bare_strings(module, states)
    ]
    assert not found, "use the enum:\n" + "\n".join(found)


def test_the_states_of_every_feature_are_known(states: States) -> None:
    assert states["handling"] == {"unacknowledged", "acknowledged", "handled"}
    assert {"open", "recovered", "closed", "due", "queued", "online", "discarded", "unmonitored"} <= states["state"]
    assert {"stopped", "recovery", "told", "fridge", "frozen", "pov"} <= states["kind"]
    assert {"live", "late", "backfill"} <= states["origin"]
    assert "unknown_probe" in states["reason"]
    assert states.keys() >= {"condition", "rule", "outcome", "role", "level", "acknowledged_through"}


@pytest.mark.parametrize(
    "code",
    [
        'alarm.state == "open"',
        '"open" != state',
        'alarm.state in ("open", "recovered")',
        'query.where(Alarm.state.in_(["open"]))',
        'update(AlarmStep).values(state="due")',
        'row = {"state": "queued", "key": key}',
        'row["state"] = "queued"',
        'alarm.state, alarm.closed_at = "closed", now',
        'alarm.state = "closed" if handled else "over"',
        'state: Mapped[AlarmState] = mapped_column(String(10), default="open")',
        'def held(*, state="held"): ...',
        'def held(state="held", more=1): ...',
        'match alarm.state:\n    case "open" | "recovered": ...',
        'OutboxMessage(kind=kind or "alarm")',
    ],
)
def test_a_bare_string_is_found(states: States, code: str) -> None:
    assert list(bare_strings(ast.parse(code), states))


@pytest.mark.parametrize(
    "code",
    [
        "alarm.state == AlarmState.OPEN",
        'title == "open"',
        'alarm.state == "not a state"',
        'log.info("alarm closed", state=state)',
        'def held(state, word="held"): ...',
    ],
)
def test_other_strings_are_left_alone(states: States, code: str) -> None:
    assert not list(bare_strings(ast.parse(code), states))
