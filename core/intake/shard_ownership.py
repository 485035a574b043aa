"""Claims of shards: a worker claims its range when it starts, and renews the claim while it runs.

Two workers of a service whose ranges overlap are a wrong configuration. The second is refused at its start; one that
was silent until its claim ended, and finds another in its place, ends. No guarantee of the log or of alerting depends
on it.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.settings_loader import InvalidSetting
from config.texts import say
from core.intake.port import IntakeLog, IntakeUnavailable, ShardClaim, ShardTaken
from core.runtime.instant import Milliseconds
from core.runtime.logs import logger
from core.wire.shards import Shard

log = logger(__name__)

LEASE = Milliseconds(15_000)
RENEW_S = 4.0
END_WITHIN_S = 0.5
"""For giving a claim up. A log that doesn't answer by then forgets it when its lease ends."""


class ShardOwnership:
    """The claim of one worker."""

    def __init__(self, intake: IntakeLog, service: str, worker: str, shards: str, data_dir: str) -> None:
        """`shards` is a range such as `00-7f`.

        Raises: InvalidSetting when it ends before it begins.
        """
        first, last = (Shard(end) for end in shards.split("-"))
        if first > last:
            raise InvalidSetting(say("shards.backwards", service=service, shards=repr(shards)))
        self._intake = intake
        self._claim = ShardClaim(service, worker, first, last, f"{socket.gethostname()}:{Path(data_dir).resolve()}")
        self._lost: InvalidSetting | None = None

    def take(self) -> bool:
        """Claim the range; True when it is ours.

        Raises: InvalidSetting, when another living worker has some of it or works under the same name;
        IntakeUnavailable.
        """
        try:
            self._intake.claim(self._claim, lease=LEASE)
        except ShardTaken as taken:
            raise self._refusal(taken.by) from None
        return True

    @contextmanager
    def kept(self, stop: threading.Event) -> Iterator[None]:
        """Renew the claim meanwhile and give it up at the end; `stop` is set when another has taken the range.

        Raises: InvalidSetting at the end, when it was lost.
        """
        over = threading.Event()
        renewing = threading.Thread(target=self._keep, args=(stop, over), name="shards", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            stop.set()
            over.set()
            renewing.join(END_WITHIN_S)
        if self._lost:
            raise self._lost

    def _keep(self, stop: threading.Event, over: threading.Event) -> None:
        self._renew(stop)
        over.wait()
        if self._lost:
            return
        try:
            self._intake.give_up(self._claim)
        except IntakeUnavailable as error:
            log.warning("claim of shards not given up; it ends by itself", error=str(error))

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(RENEW_S):
            try:
                self.take()
            except IntakeUnavailable:
                continue  # whoever reads or writes the log says so
            except InvalidSetting as error:
                log.error("shards lost", reason=str(error))  # noqa: TRY400 (the reason says it all)
                self._lost = error
                stop.set()

    def _refusal(self, other: ShardClaim) -> InvalidSetting:
        mine = self._claim
        ours = say("shards.ours", service=mine.service, first=mine.first, last=mine.last, worker=mine.worker)
        theirs = say("shards.theirs", worker=other.worker, first=other.first, last=other.last, holder=other.holder)
        kind = "shards.same_name" if mine.worker == other.worker else "shards.overlap"
        return InvalidSetting(say(kind, ours=ours, theirs=theirs, lease=LEASE // 1000))
