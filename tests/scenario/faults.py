"""Fault injection: a process kills itself with -9 at a named point of its code once a test has armed that point.

`python -m tests.scenario.faulted …` runs `coldchain …` with the points of `fault_points` wrapped around the product's
own functions. The product knows nothing of them, and a point whose function was renamed is an error at the start. Arms
and hits are files in a folder that the test and all processes share. A process takes an arm by renaming its file, so
each arm kills exactly one process, the first that arrives.
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
    """Moment relative to a call; the last two are for functions that yield a transaction."""

    BEFORE = "before it is called"
    AFTER = "after it has returned"
    COMMIT = "all statements of the transaction are done, and it is not committed"
    COMMITTED = "right after the commit"


class Call(NamedTuple):
    """Call of a wrapped function, as a condition gets it; `result` is None before the call has returned."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any = None


def always(_call: Call) -> bool:
    return True


class Reach(NamedTuple):
    """Place in the code: `module:Class.method`, or `module:name` for a function as that module has imported it."""

    target: str
    when: When
    only: Callable[[Call], bool] = always


class Point(NamedTuple):
    """Fault point of one kind of process."""

    process: str
    name: str
    at: Reach
    behind: Reach | None = None
    """Place that must have been passed first in the same thread.

    In the API it may be any thread, since one request uses several."""
    nth: int = 1
    """Which arrival since then kills, counted from 1."""
    pairs: tuple[str, ...] = ("embedded", "servers")

    @property
    def slug(self) -> str:
        """Return the name of the point's files."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.process} {self.name}".lower())


class Armoury:
    """Folder with the files of arms and hits."""

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
        """Disarm a point and count a hit; return whether it was armed."""
        with suppress(FileNotFoundError):
            (self._arms / point.slug).rename(self._hits / f"{point.slug}.{os.getpid()}.{time.monotonic_ns()}")
            return True
        return False


def install(points: Sequence[Point], armoury: Armoury) -> None:
    """Wrap the functions of these points in this process.

    Raises: LookupError for a function that doesn't exist.
    """
    listeners: dict[str, list[tuple[Reach, Callable[[], None]]]] = defaultdict(list)
    for point in points:
        trap = _Trap(point, armoury)
        # The point itself comes before its `behind`: if both are one function, one call must not count for both.
        listeners[point.at.target].append((point.at, trap.arrive))
        if point.behind:
            listeners[point.behind.target].append((point.behind, trap.pass_by))
    for target, callbacks in listeners.items():
        owner, name, function = find(target)
        yields = any(reach.when in (When.COMMIT, When.COMMITTED) for reach, _ in callbacks)
        setattr(owner, name, (_around_transaction if yields else _around)(function, callbacks))


class _Trap:
    """Fault point as it is installed in this process."""

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
    """Return the owner of a function, its name there, and the function.

    Raises: LookupError when there is none.
    """
    module, _, path = target.partition(":")
    owner: Any = import_module(module)
    *class_names, name = path.split(".")
    for class_name in class_names:
        owner = getattr(owner, class_name, None)
    function: Callable[..., Any] | None = vars(owner).get(name) if owner is not None else None
    if function is None:
        msg = f"fault point {target}: there is no such function; tests/scenario/fault_points.py names the old one"
        raise LookupError(msg)
    return owner, name, function


def _tell(callbacks: Sequence[tuple[Reach, Callable[[], None]]], when: When, call: Call) -> None:
    for reach, callback in callbacks:
        if reach.when is when and reach.only(call):
            callback()


def _around(function: Callable[..., Any], callbacks: Sequence[tuple[Reach, Callable[[], None]]]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _tell(callbacks, When.BEFORE, Call(args, kwargs))
        result = function(*args, **kwargs)
        _tell(callbacks, When.AFTER, Call(args, kwargs, result))
        return result

    return wrapped


def _around_transaction(
    function: Callable[..., Any], callbacks: Sequence[tuple[Reach, Callable[[], None]]]
) -> Callable[..., Any]:
    @contextmanager
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with function(*args, **kwargs) as tx:
            yield tx
            if isinstance(tx, Session):
                tx.flush()  # so that the statements have reached the database
            _tell(callbacks, When.COMMIT, Call(args, kwargs, tx))
        _tell(callbacks, When.COMMITTED, Call(args, kwargs))

    return wrapped
