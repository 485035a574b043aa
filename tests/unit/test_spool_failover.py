from pathlib import Path

import pytest

from core.runtime.instant import DAY, Instant
from core.wire.messages import Ack, Reading
from core.wire.topics import MessageKind
from gateway_agent.send_order import SendPace
from gateway_agent.spool_failover import SpoolFailover

T0 = Instant(1_774_632_960_000)
PACE = SendPace(20, 30.0, 50.0)
LARGE = "p" * 64


def lanes_at(path: Path) -> SpoolFailover:
    return SpoolFailover(path, PACE, limit_bytes=2**20, limit_age=DAY, now=T0)


def keep(lanes: SpoolFailover, number: int, readings: int = 1) -> None:
    said = [Reading(p=LARGE, ts=T0 + number, t=4.0) for _ in range(readings)]
    lanes.keep(said, boot="7f3a9c21", now=T0, polled={"bus": Instant(T0 + number)})


def sent(lanes: SpoolFailover, real: float) -> list[tuple[str, int]]:
    return [(spool.ep, row.seq) for spool, row, kind in lanes.next(T0, real) if kind is MessageKind.DATA]


def test_while_the_disk_is_full_the_newest_go_from_memory_under_an_ep_of_their_own(tmp_path: Path) -> None:
    lanes = lanes_at(tmp_path / "s.db")
    disk = lanes.main
    keep(lanes, 1)
    pages = disk._db.execute("PRAGMA page_count").fetchone()[0]
    disk._db.execute(f"PRAGMA max_page_count = {pages}")
    keep(lanes, 2, readings=400)
    keep(lanes, 3, readings=400)
    assert (disk.seq, disk.depth, lanes.depth) == (1, 1, 3)
    assert lanes.polled == {"bus": T0 + 1}, "a restart polls again what is in memory alone"
    [(_, first), (memory, second), (_, third)] = sent(lanes, 1)
    assert (first, second, third) == (1, 1, 2)
    assert memory != disk.ep
    disk._db.execute("PRAGMA max_page_count = 100000")
    keep(lanes, 4)
    assert (disk.seq, disk.depth) == (2, 2)
    assert sent(lanes, 2) == [(disk.ep, 2)]
    lanes.acknowledge(Ack(memory, 2), T0)
    assert (lanes.depth, disk.depth) == (2, 2), "an acknowledgement is for one life alone"
    lanes.acknowledge(Ack(disk.ep, 2), T0)
    assert lanes.depth == 0
    lanes.close()


def test_a_file_found_broken_at_a_new_connection_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    lanes = lanes_at(path)
    for number in range(1, 200):
        keep(lanes, number)
    db = lanes.main._db
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA shrink_memory")
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * (path.stat().st_size - 4096 * 2))
    lanes.restart(T0)
    assert list(tmp_path.glob("s.db.damaged-*"))
    keep(lanes, 200)
    assert len(sent(lanes, 1)) == 1
    lanes.close()


def test_a_file_that_is_found_broken_at_start_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    lanes = lanes_at(path)
    for number in range(1, 200):
        keep(lanes, number)
    before = lanes.main.ep
    lanes.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    lanes = lanes_at(path)
    for number in range(200, 400):
        keep(lanes, number)
        list(lanes.next(T0, float(number)))
    assert list(tmp_path.glob("s.db.damaged-*"))
    assert lanes.main.ep != before
    assert lanes.main.depth > 0
    lanes.close()


def test_nothing_unsound_is_promised_of_memory(tmp_path: Path) -> None:
    (tmp_path / "way").write_text("in the way")
    lanes = lanes_at(tmp_path / "way" / "s.db")
    keep(lanes, 1)
    assert lanes.depth == 1
    assert lanes.polled == {}
    (tmp_path / "way").unlink()
    keep(lanes, 2)
    assert lanes.polled == {"bus": T0 + 2}
    assert lanes.main.depth == 1
    assert lanes.depth == 2
    lanes.close()


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "overwritten"])
def test_a_spool_that_is_gone_or_damaged_begins_anew_under_an_ep_of_its_own(tmp_path: Path, damage: str) -> None:
    """Under the old one its numbers would be given again, and be taken for a cloned box."""
    file = tmp_path / "s.db"
    lanes = lanes_at(file)
    for number in range(1, 60):
        keep(lanes, number, readings=10)
    before = lanes.main.ep
    lanes.close()
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(
            {"empty": b"", "truncated": whole[: len(whole) // 2], "overwritten": b"x" * len(whole)}[damage]
        )
    lanes = lanes_at(file)
    keep(lanes, 60)
    keep(lanes, 61)
    list(lanes.next(T0, 1.0))
    assert lanes.main.ep != before
    assert len(list(tmp_path.glob("s.db.damaged-*"))) == (damage in ("truncated", "overwritten"))
    assert sent(lanes, 100.0), "what is read from now on goes out"
    lanes.close()
