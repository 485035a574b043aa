"""Where a gateway's readings are kept: on disk, or in memory while the disk refuses.

What is promised: readings on disk survive anything. While the disk is full, read-only or broken the agent goes on
polling and sends from memory, under an `ep` of its own, the newest `MEMORY_BYTES`; those are lost when the process ends
before they are acknowledged, and the log says so. Every commit tries the disk first, so it heals by itself. A damaged
file is set aside, never overwritten.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.runtime.clock import real_now
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.runtime.trouble import Kind as TroubleKind
from core.runtime.trouble import Trouble, Troubles
from core.wire.messages import Ack, Reading
from core.wire.topics import Kind
from gateway_agent.sending import Pace, Sending
from gateway_agent.spool import DamagedSpool, Spool, Spooled

log = logger(__name__)

MEMORY_BYTES = 4 * 2**20


class Lane:
    """A spool and what of it is on its way."""

    def __init__(self, spool: Spool, pace: Pace, now: Instant) -> None:
        """Everything in the spool begins as unsent."""
        self.spool = spool
        self.sending = Sending(spool, pace)
        self.sending.restart(now)


class Lanes:
    """The disk's lane, and the one in memory once it was needed. Used by one thread."""

    def __init__(self, path: Path, pace: Pace, *, limit_bytes: int, limit_age: Milliseconds, now: Instant) -> None:
        """Open what is there; a disk that refuses is tried again at every `keep`."""
        self._path = path
        self._pace = pace
        self._limit_bytes = limit_bytes
        self._limit_age = limit_age
        self._disk: Lane | None = None
        self._memory: Lane | None = None
        self._troubles = Troubles()
        self._aside = Troubles()
        """Damaged rows of the spool, and damaged files that lie beside it."""
        try:
            self._open_disk(now)
        except (sqlite3.Error, OSError) as error:
            self._note(error)
        self._look_aside()

    @property
    def main(self) -> Spool:
        """The spool that readings are kept in now."""
        return (self._disk or self._in_memory(Instant(0))).spool

    @property
    def depth(self) -> int:
        """Batches that no acknowledgement has covered."""
        return sum(lane.spool.depth for lane in self._lanes())

    @property
    def size(self) -> int:
        """Bytes that they take."""
        return sum(lane.spool.size for lane in self._lanes())

    @property
    def troubles(self) -> list[Trouble]:
        """What is wrong with the disk now, and what of it was set aside."""
        return [*self._troubles.now(), *self._aside.now()]

    @property
    def polled(self) -> Mapping[str, Instant]:
        """For each bus, the cycle whose readings were last kept on disk."""
        return self._disk.spool.polled if self._disk else {}

    def keep(self, readings: Sequence[Reading], *, boot: str, now: Instant, polled: Mapping[str, Instant]) -> None:
        """Keep readings, durably when the disk allows it."""
        try:
            lane = self._disk or self._open_disk(now)
            lane.spool.append(readings, boot=boot, at=now, polled=polled)
        except (sqlite3.Error, OSError) as error:
            self._refuses(self._disk, error)
            lane = self._in_memory(now)
            lane.spool.append(readings, boot=boot, at=now)
        else:
            self._note(None)
        lane.sending.added()

    def acknowledge(self, ack: Ack, now: Instant) -> bool:
        """Let go of what an acknowledgement covers; True when a spool began a new life instead."""
        for lane in self._lanes():
            if lane.spool.ep != ack.ep:
                continue
            try:
                if not lane.spool.acknowledge(ack):
                    lane.sending.restart(now)
                    return True
            except sqlite3.Error as error:
                # The rows stay and are sent again at the next connection; later acknowledgements cover them too.
                self._refuses(lane, error)
            lane.sending.acknowledged(ack)
        return False

    @property
    def wait_for_proof(self) -> bool:
        """Whether readings wait for a first acknowledgement, since the file may be an old copy."""
        return bool(self._disk and not self._disk.spool.is_proven)

    def restart(self, now: Instant) -> None:
        """Take everything as unsent: there is a new connection."""
        for lane in self._lanes():
            try:
                lane.sending.restart(now)
            except sqlite3.Error as error:
                self._refuses(lane, error)

    def next(self, now: Instant, real: float) -> Iterator[tuple[Spool, Spooled, Kind]]:
        """Yield what is to be published now."""
        for lane in self._lanes():
            try:
                for row, kind in lane.sending.next(now, real):
                    yield lane.spool, row, kind
            except sqlite3.Error as error:
                self._refuses(lane, error)

    def wait(self, real: float) -> float | None:
        """Return real seconds until `next` may have something again by itself, None for never."""
        waits = [wait for lane in self._lanes() if (wait := lane.sending.wait(real)) is not None]
        return min(waits, default=None)

    def flush(self) -> None:
        """Commit deletions that wait, and look whether what was set aside is still there."""
        self._look_aside()
        for lane in self._lanes():
            try:
                lane.spool.flush()
            except sqlite3.Error as error:
                self._refuses(lane, error)

    def close(self) -> None:
        """Close the files. What is in memory and unacknowledged is lost now."""
        if self._memory and self._memory.spool.depth:
            log.error("readings in memory lost", batches=self._memory.spool.depth)
        for lane in self._lanes():
            lane.spool.close()
        self._disk = self._memory = None

    def _lanes(self) -> list[Lane]:
        return [lane for lane in (self._disk, self._memory) if lane]

    def _open_disk(self, now: Instant) -> Lane:
        try:
            spool = self._spool(self._path, self._limit_bytes)
        except DamagedSpool as error:
            self._rename(error)
            spool = self._spool(self._path, self._limit_bytes)
        self._disk = Lane(spool, self._pace, now)
        return self._disk

    def _in_memory(self, now: Instant) -> Lane:
        if self._memory is None:
            self._memory = Lane(self._spool(None, MEMORY_BYTES), self._pace, now)
        return self._memory

    def _spool(self, path: Path | None, limit: int) -> Spool:
        return Spool(path, limit_bytes=limit, limit_age=self._limit_age)

    def _refuses(self, lane: Lane | None, error: Exception) -> None:
        """Note what a disk says; when it is the file that is damaged, another begins."""
        self._note(error)
        if lane and lane is self._disk and not isinstance(error, sqlite3.OperationalError | OSError):
            self._set_aside(lane, error)

    def _set_aside(self, lane: Lane, why: Exception) -> None:
        lane.spool.close()
        self._disk = None
        self._rename(why)

    def _rename(self, why: Exception) -> None:
        stamp = real_now()
        for end in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + end)
            if part.exists():
                part.rename(self._path.with_name(f"{self._path.name}.damaged-{stamp}{end}"))
        self._look_aside()
        log.error("damaged spool set aside", path=f"{self._path}.damaged-{stamp}", why=str(why))

    def _look_aside(self) -> None:
        try:
            files = sorted(self._path.parent.glob(f"{self._path.name}.damaged-*[0-9]"))
        except OSError:
            return  # whoever writes there says so
        batches = self._disk.spool.set_aside if self._disk else 0
        told = [file.name for file in files] + ([f"{batches} batches in {self._path.name}"] if batches else [])
        self._aside.note("spool", ", ".join(told), where=str(self._path.parent), kind=TroubleKind.SET_ASIDE)

    def _note(self, error: Exception | None) -> None:
        if not self._troubles.note("spool", error, where=str(self._path)):
            return
        if error is None:
            log.info("spool can be written again", path=str(self._path))
        else:
            log.error("spool can't be written; readings are kept in memory alone", path=str(self._path), why=str(error))
