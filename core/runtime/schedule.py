"""What wakes the ticks: real time, from memory. What is due is in the records, and the job looks there.

Jobs kept by APScheduler would be lost or run twice in a crash; here it only calls functions every so often. A job that
still runs isn't started again, and turns that were missed are one.
"""

from collections.abc import Callable
from datetime import UTC

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from core.runtime.logs import logger
from core.runtime.trouble import Troubles

log = logger(__name__)


class Ticks:
    """Calls each job every so many real seconds, in threads of its own, until `stop`."""

    def __init__(self) -> None:
        self._troubles = Troubles()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def every(self, seconds: float, name: str, job: Callable[[], object]) -> None:
        """Add a job. One that fails is logged and called again at its next turn."""

        def guarded() -> None:
            try:
                job()
            except Exception as error:
                if self._troubles.note(name, error):
                    log.exception("tick failed; told again when it fails otherwise", tick=name)
            else:
                if self._troubles.note(name, None):
                    log.info("tick works again", tick=name)

        self._scheduler.add_job(guarded, "interval", seconds=seconds, id=name)

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """End; a job that runs may finish."""
        self._scheduler.shutdown(wait=False)
