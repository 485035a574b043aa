"""Spools of a gateway: one on disk, and one in memory while the disk refuses.

Guarantees, tried by tests/unit/test_spool_failover.py and tests/integration/test_agent_disks.py: readings on disk
survive a crash. While the disk is full, read-only or broken the agent goes on polling, keeps the newest `MEMORY_BYTES`
in memory and sends them under an `ep` of their own; they are lost if the process ends before they are acknowledged, and
the log says so. Every commit tries the disk first, so the agent recovers by itself. A damaged file is renamed, never
overwritten.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.runtime.clock import real_now
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.runtime.trouble import Trouble, TroubleKind, Troubles
from core.wire.messages import Ack, Reading
from core.wire.topics import MessageKind
from gateway_agent.send_order import SendOrder, SendPace
from gateway_agent.spool import DamagedSpool, Spool, Spooled

log = logger(__name__)

MEMORY_BYTES = 4 * 2**20


class SendingSpool:
    """Spool with its send queue."""

    def __init__(self, spool: Spool, pace: SendPace, now: Instant) -> None:
        """Begin with everything in the spool unsent."""
        self.spool = spool
        self.sending = SendOrder(spool, pace)
        self.sending.restart(now)


class SpoolFailover:
    """Spool on disk, and the one in memory once it was needed. Not thread-safe."""

    def __init__(self, path: Path, pace: SendPace, *, limit_bytes: int, limit_age: Milliseconds, now: Instant) -> None:
        """Open the spool on disk; if the disk refuses, every `keep` tries again."""
        self._path = path
        self._pace = pace
        self._limit_bytes = limit_bytes
        self._limit_age = limit_age
        self._disk: SendingSpool | None = None
        self._memory: SendingSpool | None = None
        self._troubles = Troubles()
        self._aside = Troubles()
        """Damaged rows of the spool, and damaged files in its folder."""
        try:
            self._open_disk(now)
        except (sqlite3.Error, OSError) as error:
            self._note_disk(error)
        self._note_set_aside()

    @property
    def main(self) -> Spool:
        """Spool that new readings go to."""
        return (self._disk or self._open_memory(Instant(0))).spool

    @property
    def depth(self) -> int:
        """Number of unacknowledged batches."""
        return sum(sending_spool.spool.depth for sending_spool in self._sending_spools())

    @property
    def size(self) -> int:
        """Bytes of the unacknowledged batches."""
        return sum(sending_spool.spool.size for sending_spool in self._sending_spools())

    @property
    def troubles(self) -> list[Trouble]:
        """Current troubles of the disk, and files and batches that were set aside."""
        return [*self._troubles.now(), *self._aside.now()]

    @property
    def polled(self) -> Mapping[str, Instant]:
        """Last cycle of each bus whose readings were stored on disk."""
        return self._disk.spool.polled if self._disk else {}

    def keep(self, readings: Sequence[Reading], *, boot: str, now: Instant, polled: Mapping[str, Instant]) -> None:
        """Store readings, durably if the disk allows it."""
        try:
            sending_spool = self._disk or self._open_disk(now)
            sending_spool.spool.append(readings, boot=boot, at=now, polled=polled)
        except (sqlite3.Error, OSError) as error:
            self._handle_error(self._disk, error)
            sending_spool = self._open_memory(now)
            sending_spool.spool.append(readings, boot=boot, at=now)
        else:
            self._note_disk(None)
        sending_spool.sending.added()

    def acknowledge(self, ack: Ack, now: Instant) -> bool:
        """Delete acknowledged batches; return True if a spool began a new epoch instead."""
        for sending_spool in self._sending_spools():
            if sending_spool.spool.ep != ack.ep:
                continue
            try:
                if not sending_spool.spool.acknowledge(ack):
                    sending_spool.sending.restart(now)
                    return True
            except sqlite3.Error as error:
                # The rows stay and are sent again at the next connection; a later acknowledgement covers them too.
                self._handle_error(sending_spool, error)
            sending_spool.sending.acknowledged(ack)
        return False

    @property
    def wait_for_proof(self) -> bool:
        """Whether readings must wait for a first acknowledgement, since the file may be an old copy."""
        return bool(self._disk and not self._disk.spool.is_proven)

    def restart(self, now: Instant) -> None:
        """Take everything as unsent, since there is a new connection."""
        for sending_spool in self._sending_spools():
            try:
                sending_spool.sending.restart(now)
            except sqlite3.Error as error:
                self._handle_error(sending_spool, error)

    def next(self, now: Instant, real: float) -> Iterator[tuple[Spool, Spooled, MessageKind]]:
        """Yield the batches to be published now."""
        for sending_spool in self._sending_spools():
            try:
                for row, kind in sending_spool.sending.next(now, real):
                    yield sending_spool.spool, row, kind
            except sqlite3.Error as error:
                self._handle_error(sending_spool, error)

    def wait(self, real: float) -> float | None:
        """Return real seconds until `next` may yield something without a new event, None for never."""
        waits = [
            wait for sending_spool in self._sending_spools() if (wait := sending_spool.sending.wait(real)) is not None
        ]
        return min(waits, default=None)

    def flush(self) -> None:
        """Commit pending deletions, and check whether what was set aside is still there."""
        self._note_set_aside()
        for sending_spool in self._sending_spools():
            try:
                sending_spool.spool.flush()
            except sqlite3.Error as error:
                self._handle_error(sending_spool, error)

    def close(self) -> None:
        """Close the files. Unacknowledged batches in memory are lost."""
        if self._memory and self._memory.spool.depth:
            log.error("readings in memory lost", batches=self._memory.spool.depth)
        for sending_spool in self._sending_spools():
            sending_spool.spool.close()
        self._disk = self._memory = None

    def _sending_spools(self) -> list[SendingSpool]:
        return [sending_spool for sending_spool in (self._disk, self._memory) if sending_spool]

    def _open_disk(self, now: Instant) -> SendingSpool:
        try:
            spool = self._spool(self._path, self._limit_bytes)
        except DamagedSpool as error:
            self._rename_damaged(error)
            spool = self._spool(self._path, self._limit_bytes)
        self._disk = SendingSpool(spool, self._pace, now)
        return self._disk

    def _open_memory(self, now: Instant) -> SendingSpool:
        if self._memory is None:
            self._memory = SendingSpool(self._spool(None, MEMORY_BYTES), self._pace, now)
        return self._memory

    def _spool(self, path: Path | None, limit: int) -> Spool:
        return Spool(path, limit_bytes=limit, limit_age=self._limit_age)

    def _handle_error(self, sending_spool: SendingSpool | None, error: Exception) -> None:
        """Note an error of the disk; if the file is damaged, set it aside so that a new one begins."""
        self._note_disk(error)
        if sending_spool and sending_spool is self._disk and not isinstance(error, sqlite3.OperationalError | OSError):
            self._set_aside(sending_spool, error)

    def _set_aside(self, sending_spool: SendingSpool, why: Exception) -> None:
        sending_spool.spool.close()
        self._disk = None
        self._rename_damaged(why)

    def _rename_damaged(self, why: Exception) -> None:
        stamp = real_now()
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(self._path.with_name(f"{self._path.name}.damaged-{stamp}{suffix}"))
        self._note_set_aside()
        log.error("damaged spool set aside", path=f"{self._path}.damaged-{stamp}", why=str(why))

    def _note_set_aside(self) -> None:
        try:
            files = sorted(self._path.parent.glob(f"{self._path.name}.damaged-*[0-9]"))
        except OSError:
            return  # a write to this folder fails too, and is reported
        batches = self._disk.spool.set_aside if self._disk else 0
        parts = [file.name for file in files] + ([f"{batches} batches in {self._path.name}"] if batches else [])
        self._aside.note("spool", ", ".join(parts), where=str(self._path.parent), kind=TroubleKind.SET_ASIDE)

    def _note_disk(self, error: Exception | None) -> None:
        if not self._troubles.note("spool", error, where=str(self._path)):
            return
        if error is None:
            log.info("spool can be written again", path=str(self._path))
        else:
            log.error("spool can't be written; readings are kept in memory alone", path=str(self._path), why=str(error))
