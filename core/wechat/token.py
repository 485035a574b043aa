"""Which access token serves now: one for all processes, kept in the records, fetched by one of them under a lease.

WeChat counts in real time, so its expiry and the lease are real time, whatever clock the system works by.
Guarantees, tried by tests/integration/test_wechat_token.py: however many threads and processes want a token at once, it
is fetched once; a holder that was killed blocks the others no longer than its lease; a token is never logged.
"""

import secrets
import threading
from collections.abc import Callable
from time import sleep

import msgspec
from sqlalchemy import update

from core.db.engine import Records
from core.db.insert import insert_missing
from core.runtime.clock import monotonic, real_now
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.wechat.errcodes import NoAnswer, Verdict, WechatError
from core.wechat.tables import WechatToken

log = logger(__name__)

MARGIN_S = 60.0
"""A token is given up this long before its end (a tenth of its life where that is less)."""
LOOK_S = 0.05


class Fetched(msgspec.Struct, frozen=True):
    """What WeChat gave."""

    token: str
    life_s: float


Fetch = Callable[[bool], Fetched]
"""Asks WeChat for a token; True demands a new one, which ends the one before."""


class Tokens:
    """The token of one app. Every method may be called from any thread; each is over within `4 × timeout` seconds."""

    def __init__(self, records: Records, app_id: str, fetch: Fetch, *, timeout: float) -> None:
        """`timeout`: the longest that one `fetch` takes, in seconds."""
        self._records = records
        self._app_id = app_id
        self._fetch = fetch
        self._timeout = timeout
        self._lock = threading.Lock()
        self._held = ("", Instant(0))
        self._failed: tuple[float, WechatError] | None = None

    def get(self) -> str:
        """Return a token that should serve.

        Raises: WechatError.
        """
        token, until = self._held
        if until > real_now():
            return token
        return self._another("")

    def renew(self, bad: str) -> str:
        """Return a token other than `bad`, which WeChat has just rejected.

        Raises: WechatError.
        """
        return self._another(bad)

    def _another(self, bad: str) -> str:
        """One thread of the process goes and asks; the others wait here and share what came of it."""
        came = monotonic()
        with self._lock:
            token, until = self._held
            if until > real_now() and token != bad:
                return token
            if self._failed and self._failed[0] >= came:
                error = self._failed[1]
                raise WechatError(error.code, error.detail, means=error.means)
            try:
                self._held = self._shared(bad)
            except WechatError as error:
                self._failed = (monotonic(), error)
                self._held = ("", Instant(0))
                raise
            return self._held[0]

    def _shared(self, bad: str) -> tuple[str, Instant]:
        lease = secrets.token_hex(16)
        deadline = monotonic() + 2 * self._timeout
        while True:
            held = self._claim(lease, bad)
            if isinstance(held, tuple):
                return held
            if held:
                return self._fetch_and_keep(lease, bad)
            if monotonic() > deadline:
                raise WechatError(NoAnswer.NO_TOKEN, "another process has been fetching the token for too long")
            sleep(LOOK_S)

    def _claim(self, lease: str, bad: str) -> tuple[str, Instant] | bool:
        """Return the token of the records where it serves, else whether the lease is ours."""
        now = real_now()
        with self._records.write() as tx:
            insert_missing(tx, WechatToken, [{"app_id": self._app_id}])
            row = tx.get_one(WechatToken, self._app_id, with_for_update=True)
            if row.token and row.expires_at and row.expires_at > now and row.token != bad:
                return row.token, row.expires_at
            if row.lease and row.lease_until and row.lease_until > now:
                return False
            row.lease = lease
            row.lease_until = Instant(now + int(2 * self._timeout * 1000))
            return True

    def _fetch_and_keep(self, lease: str, bad: str) -> tuple[str, Instant]:
        asked = real_now()
        try:
            fetched = self._fetch(False)
            if fetched.token == bad:
                fetched = self._fetch(True)
        except WechatError as error:
            self._keep(lease, {})
            # Here a bad credential is the app's secret, not a token.
            means = Verdict.ACCOUNT if error.means is Verdict.TOKEN else error.means
            raise WechatError(error.code, error.detail, means=means) from None
        except BaseException:
            self._keep(lease, {})
            raise
        margin = min(MARGIN_S, fetched.life_s / 10)
        until = Instant(asked + int((fetched.life_s - margin) * 1000))
        self._keep(lease, {"token": fetched.token, "expires_at": until})
        log.info("wechat access renewed", app=self._app_id, life_s=fetched.life_s)
        return fetched.token, until

    def _keep(self, lease: str, values: dict[str, object]) -> None:
        mine = update(WechatToken).where(WechatToken.app_id == self._app_id, WechatToken.lease == lease)
        with self._records.write() as tx:
            tx.execute(mine.values(lease=None, lease_until=None, **values))
