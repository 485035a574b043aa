"""How a process kills itself with -9 at a named point of its code, once the story asks for it.

`python -m tests.scenario.faulted …` runs `coldchain …` with the points of `fault_points` wrapped around the product's
own functions; nothing in the product knows of them, and a point whose function was renamed is an error at the start.
Arms and hits are files in a folder that the story and all processes share. An arm is taken by renaming it, so it kills
one process once, whichever comes first.
"""

import os
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.orm import Session


class When(Enum):
    """When, as seen from a function; the last two are for one that yields a transaction."""

    BEFORE = "before it is called"
    AFTER = "after it has returned"
    COMMIT = "all statements of the transaction are done, and it is not committed"
    COMMITTED = "right after the commit"


class Call(NamedTuple):
    """A call of a wrapped function, as a condition sees it; `result` is None before there is one."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any = None


def always(_call: Call) -> bool:
    return True


class Reach(NamedTuple):
    """A place in the code: `module:Class.method`, or `module:name` as that module knows the function."""

    target: str
    when: When
    only: Callable[[Call], bool] = always


class Point(NamedTuple):
    """A fault point of one kind of process."""

    process: str
    name: str
    at: Reach
    behind: Reach | None = None
    """It counts only once this was passed, in the same thread (an api answers a request in several)."""
    nth: int = 1
    """The how many-th arrival since then."""
    pairs: tuple[str, ...] = ("embedded", "servers")

    @property
    def slug(self) -> str:
        """The name of its files."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.process} {self.name}".lower())


class Armoury:
    """The folder of arms and hits."""

    def __init__(self, folder: Path) -> None:
        self._arms, self._hits = folder / "arms", folder / "hits"
        for part in (self._arms, self._hits):
            part.mkdir(parents=True, exist_ok=True)

    def arm(self, point: Point) -> None:
        (self._arms / point.slug).touch()

    def disarm(self, point: Point) -> None:
        (self._arms / point.slug).unlink(missing_ok=True)

    def hits(self, point: Point) -> int:
        return sum(1 for _ in self._hits.glob(f"{point.slug}.*"))

    def take(self, point: Point) -> bool:
        """Whether it was armed; it is no more."""
        with suppress(FileNotFoundError):
            (self._arms / point.slug).rename(self._hits / f"{point.slug}.{os.getpid()}.{time.monotonic_ns()}")
            return True
        return False


def install(points: Sequence[Point], armoury: Armoury) -> None:
    """Wrap the functions of these points in this process.

    Raises: LookupError for a function that isn't there (any more).
    """
    listeners: dict[str, list[tuple[Reach, Callable[[], None]]]] = defaultdict(list)
    for point in points:
        trap = _Trap(point, armoury)
        # First the reach itself: a point that lies behind its own function shall not count the same call.
        listeners[point.at.target].append((point.at, trap.arrive))
        if point.behind:
            listeners[point.behind.target].append((point.behind, trap.pass_by))
    for target, told in listeners.items():
        owner, name, function = find(target)
        yields = any(reach.when in (When.COMMIT, When.COMMITTED) for reach, _ in told)
        setattr(owner, name, (_around_transaction if yields else _around)(function, told))


class _Trap:
    """One point in this process."""

    def __init__(self, point: Point, armoury: Armoury) -> None:
        self._point = point
        self._armoury = armoury
        self._passed: dict[int, int] = {}

    def pass_by(self) -> None:
        self._passed[self._thread()] = 0

    def arrive(self) -> None:
        if self._point.behind:
            thread = self._thread()
            if thread not in self._passed:
                return
            self._passed[thread] += 1
            if self._passed[thread] < self._point.nth:
                return
            del self._passed[thread]
        if self._armoury.take(self._point):
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()

    def _thread(self) -> int:
        return 0 if self._point.process == "api" else threading.get_ident()


def find(target: str) -> tuple[Any, str, Callable[..., Any]]:
    """Return where a function lives, its name there, and itself.

    Raises: LookupError.
    """
    module, _, path = target.partition(":")
    owner: Any = import_module(module)
    *holders, name = path.split(".")
    for holder in holders:
        owner = getattr(owner, holder, None)
    function: Callable[..., Any] | None = vars(owner).get(name) if owner is not None else None
    if function is None:
        msg = f"fault point {target}: there is no such function; tests/scenario/fault_points.py names the old one"
        raise LookupError(msg)
    return owner, name, function


def _tell(told: Sequence[tuple[Reach, Callable[[], None]]], when: When, call: Call) -> None:
    for reach, listener in told:
        if reach.when is when and reach.only(call):
            listener()


def _around(function: Callable[..., Any], told: Sequence[tuple[Reach, Callable[[], None]]]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _tell(told, When.BEFORE, Call(args, kwargs))
        result = function(*args, **kwargs)
        _tell(told, When.AFTER, Call(args, kwargs, result))
        return result

    return wrapped


def _around_transaction(
    function: Callable[..., Any], told: Sequence[tuple[Reach, Callable[[], None]]]
) -> Callable[..., Any]:
    @contextmanager
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with function(*args, **kwargs) as tx:
            yield tx
            if isinstance(tx, Session):
                tx.flush()  # so that the statements have reached the database
            _tell(told, When.COMMIT, Call(args, kwargs, tx))
        _tell(told, When.COMMITTED, Call(args, kwargs))

    return wrapped
