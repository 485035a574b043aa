"""Status file of a service: another process can read it, and knows when it is old."""

import threading
from pathlib import Path

import msgspec
import pytest

from core.runtime import status
from core.runtime.status import StatusFile, read_all
from tests.fixtures.waiting import until


def test_what_was_written_is_read_and_is_fresh(tmp_path: Path) -> None:
    StatusFile(tmp_path, "collector").write({"received": 12, "problem": "", "connected": True})
    told = StatusFile(tmp_path, "collector").read()
    assert told is not None
    assert (told.service, told.facts, told.fresh) == (
        "collector",
        {"received": 12, "problem": "", "connected": True},
        True,
    )
    assert set(read_all(tmp_path)) == {"collector"}


def test_an_old_one_is_not_fresh(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, "collector")
    file.write({})
    told = file.read()
    assert told is not None
    assert not msgspec.structs.replace(told, at=told.at - status.STALE).fresh  # type: ignore[arg-type]


def test_nothing_or_garbage_is_no_status(tmp_path: Path) -> None:
    assert StatusFile(tmp_path, "api").read() is None
    assert read_all(tmp_path) == {}
    (tmp_path / "status").mkdir()
    (tmp_path / "status" / "api.json").write_text("{")
    assert read_all(tmp_path) == {}


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("a file where the folder should be")
    StatusFile(tmp_path, "api").write({})


def test_it_is_kept_until_the_end_and_told_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "EVERY_S", 0.005)
    stop = threading.Event()
    file = StatusFile(tmp_path, "api")
    looks: list[int] = []

    def facts() -> dict[str, int]:
        looks.append(1)
        return {"looks": len(looks)}

    thread = file.keep(facts, stop)
    until(lambda: len(looks) > 3, "several looks")
    stop.set()
    thread.join()
    told = file.read()
    assert told is not None
    assert told.facts == {"looks": len(looks)}


def test_facts_that_cannot_be_had_for_once_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "EVERY_S", 0.01)
    asked = iter([RuntimeError("no"), *[None] * 10_000])

    def facts() -> status.StatusFields:
        problem = next(asked)
        if problem:
            raise problem
        return {"received": 1}

    file = StatusFile(tmp_path, "collector")
    stop = threading.Event()
    thread = file.keep(facts, stop)
    until(lambda: file.read() is not None, "a status after one that failed")
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
