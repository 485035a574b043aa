"""Scheduler of periodic jobs in real time. It keeps nothing: a job finds what is due in the records.

Jobs stored by APScheduler could be lost or run twice after a crash, so here it only calls functions at an interval. A
job that still runs isn't started again, and missed runs are made up by one.
"""

from collections.abc import Callable
from datetime import UTC

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from core.runtime.logs import logger
from core.runtime.trouble import Troubles

log = logger(__name__)


class Scheduler:
    """Periodic jobs, run in a thread pool until `stop`."""

    def __init__(self) -> None:
        self._troubles = Troubles()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def every(self, seconds: float, name: str, job: Callable[[], object]) -> None:
        """Add a job that runs every `seconds` real seconds. A failed run is logged, and the job runs again as usual."""

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
        """Start running the jobs."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop starting jobs. A job that is running may finish."""
        self._scheduler.shutdown(wait=False)
