"""Context of the HTTP app: stores, clock, settings, secrets and limits, for its routes."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request

from api.concurrency_limit import ConcurrencyLimit
from api.metrics import Metrics
from api.sign_in_throttle import FailedSignIns, Throttle
from config.secrets import Secrets
from config.settings import Settings
from core.db.engine import Records
from core.health.health_check import Health, HealthCheck
from core.intake.port import IntakeLog
from core.runtime.clock import Clock, monotonic
from core.runtime.connection_limits import RateLimitedLog
from core.runtime.logs import logger
from core.telemetry.port import Telemetry
from core.wechat.oauth import OAuth

log = logger(__name__)

T = TypeVar("T")
RETRY_S = 1.0
SIGN_INS = 10
"""Tries to sign in from one address within a minute."""
CONCURRENT_REQUESTS = 16
"""Concurrent requests to the stores; fewer than there are threads and connections."""
REQUESTS_OF_ONE_PRINCIPAL = 4
CONCURRENT_SIGN_INS = 4


class StoreUnavailable(Exception):
    """Error: a store can't be reached at present; the text says which and what to do."""


class LazyStore(Generic[T]):
    """Store that may be missing while the process already answers: opened at first use, tried again each second."""

    def __init__(self, name: str, open_it: Callable[[], T]) -> None:
        self.name = name
        self._open = open_it
        self._lock = Lock()
        self._store: T | None = None
        self._next = 0.0
        self._problem = ""
        self._error: Exception | None = None
        self._reported = ("", "")

    def get(self) -> T:
        """Return the open store.

        Raises: StoreUnavailable.
        """
        with self._lock:
            if self._store is None:
                if monotonic() < self._next:
                    raise StoreUnavailable(self._problem) from self._error
                try:
                    self._store = self._open()
                except Exception as error:  # an adapter's own errors; whatever it is, the store can't be used now
                    self._next, self._error = monotonic() + RETRY_S, error
                    # Anybody may read it (/readyz), and an error's text may have an address or a user's name.
                    problem = f"{self.name} can't be opened ({type(error).__name__}); the log of the api says more"
                    if (problem, str(error)) != self._reported:
                        log.warning("store not opened", store=self.name, problem=str(error)[:300])
                    self._problem, self._reported = problem, (problem, str(error))
                    raise StoreUnavailable(self._problem) from error
            return self._store

    def entered(self) -> AbstractContextManager[T]:
        """Return a context manager around the open store that leaves it open.

        Raises: StoreUnavailable.
        """
        return nullcontext(self.get())

    @property
    def opened(self) -> T | None:
        """Store if it has been opened, to close it."""
        return self._store


def opened_store(name: str, store: T) -> LazyStore[T]:
    """Wrap a store that is open already."""
    return LazyStore(name, lambda: store)


class AppContext:
    """Context of one app: its stores, clock, settings and secrets; found in `app.state.context`."""

    def __init__(
        self,
        *,
        records: Records,
        telemetry: LazyStore[Telemetry],
        log: LazyStore[IntakeLog],
        clock: Clock,
        settings: Settings,
        secrets: Secrets,
        watched: Records | None = None,
    ) -> None:
        """`watched`: the records as the health check reads them, through connections of its own."""
        self.records = records
        self.telemetry = telemetry
        self.log = log
        self.clock = clock
        self.settings = settings
        self.secrets = secrets
        self.health_check = HealthCheck(
            settings,
            clock,
            records=lambda: nullcontext(watched or records),
            log=log.entered,
            telemetry=telemetry.entered,
        )
        self.health_task: asyncio.Task[Health] | None = None
        """Health check that is under way."""
        self.metrics = Metrics()
        self.slots = ConcurrencyLimit(CONCURRENT_REQUESTS, per_principal=REQUESTS_OF_ONE_PRINCIPAL)
        self.sign_in_slots = ConcurrencyLimit(CONCURRENT_SIGN_INS, per_principal=CONCURRENT_SIGN_INS // 2)
        self.throttle = Throttle(SIGN_INS, 60.0)
        self.failed_sign_ins = FailedSignIns()
        self.slowed_sign_ins = RateLimitedLog("guesses of passwords were slowed")
        self.oauth = OAuth(settings.wechat, secrets.wechat_secret) if settings.wechat.app_id else None

    @property
    def behind_tls(self) -> bool:
        """Whether phones reach this process through https, so that cookies may be marked Secure."""
        return self.settings.public_url.startswith("https://")


def app_context_of(request: Request) -> AppContext:
    """Return the process's context."""
    context: AppContext = request.app.state.context
    return context


AppContextDep = Annotated[AppContext, Depends(app_context_of)]
