"""Sealing of the audit log: once a minute of the clock one of all workers seals the rows that were written since.

The claim of the run and the first seal are one transaction, so a worker that is killed leaves both undone.
"""

from alerting import periodic_jobs
from core.db import audit_chain
from core.db.engine import Records
from core.runtime.clock import Clock
from core.runtime.instant import MINUTE

JOB = "audit seal"


class AuditSealing:
    """The job of one worker. `run` is called on the scheduler's thread."""

    def __init__(self, records: Records, key: bytes, clock: Clock) -> None:
        """`key` is that of the chain (`core.db.audit_chain.chain_key`)."""
        self._records = records
        self._key = key
        self._clock = clock

    def run(self) -> bool:
        """Seal if it is due; return whether this worker had the run."""
        now = self._clock.now()
        with self._records.read() as tx:
            if not periodic_jobs.is_due(tx, JOB, now):
                return False
        with self._records.write() as tx:
            if periodic_jobs.claim_job(tx, JOB, MINUTE, now) is None:
                return False
            sealed = audit_chain.seal(tx, self._key, now)
        while sealed == audit_chain.ROWS:
            with self._records.write() as tx:
                sealed = audit_chain.seal(tx, self._key, now)
        return True
