"""Shared access token of an official account: stored in the records, fetched by one process under a lease.

Expiry and lease are in real time, as WeChat counts, also with a virtual clock.
Guarantees, tried by tests/integration/test_wechat_token.py: when many threads and processes need a token, it is fetched
once; a killed holder blocks the others no longer than its lease; a token is never logged.
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
"""A token is replaced this long before its expiry, or a tenth of its life before it if that is less."""
POLL_S = 0.05


class FetchedToken(msgspec.Struct, frozen=True):
    """Token from WeChat, with its life in seconds."""

    token: str
    life_s: float


Fetch = Callable[[bool], FetchedToken]
"""Fetches a token from WeChat; True forces a new one, which ends the previous one."""


class AccessTokens:
    """Token of one app. Thread-safe; every method returns within `4 × timeout` seconds."""

    def __init__(self, records: Records, app_id: str, fetch: Fetch, *, timeout: float) -> None:
        """Take the longest time of one `fetch`, in seconds."""
        self._records = records
        self._app_id = app_id
        self._fetch = fetch
        self._timeout = timeout
        self._lock = threading.Lock()
        self._held = ("", Instant(0))
        self._failed: tuple[float, WechatError] | None = None

    def get(self) -> str:
        """Return a token that should be valid.

        Raises: WechatError.
        """
        token, until = self._held
        if until > real_now():
            return token
        return self._replace("")

    def renew(self, bad: str) -> str:
        """Return a token other than `bad`, which WeChat has just rejected.

        Raises: WechatError.
        """
        return self._replace(bad)

    def _replace(self, bad: str) -> str:
        """Get another token than `bad`. One thread of the process does it; the others wait and share its result."""
        called_at = monotonic()
        with self._lock:
            token, until = self._held
            if until > real_now() and token != bad:
                return token
            if self._failed and self._failed[0] >= called_at:
                error = self._failed[1]
                raise WechatError(error.code, error.detail, means=error.means)
            try:
                self._held = self._from_records(bad)
            except WechatError as error:
                self._failed = (monotonic(), error)
                self._held = ("", Instant(0))
                raise
            return self._held[0]

    def _from_records(self, bad: str) -> tuple[str, Instant]:
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
            sleep(POLL_S)

    def _claim(self, lease: str, bad: str) -> tuple[str, Instant] | bool:
        """Return the token of the records if it is valid; otherwise whether this call got the lease."""
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
        asked_at = real_now()
        try:
            fetched = self._fetch(False)
            if fetched.token == bad:
                fetched = self._fetch(True)
        except WechatError as error:
            self._keep(lease, {})
            # In this call an invalid credential means the app's secret, not a token.
            means = Verdict.ACCOUNT if error.means is Verdict.TOKEN else error.means
            raise WechatError(error.code, error.detail, means=means) from None
        except BaseException:
            self._keep(lease, {})
            raise
        margin = min(MARGIN_S, fetched.life_s / 10)
        until = Instant(asked_at + int((fetched.life_s - margin) * 1000))
        self._keep(lease, {"token": fetched.token, "expires_at": until})
        log.info("wechat access renewed", app=self._app_id, life_s=fetched.life_s)
        return fetched.token, until

    def _keep(self, lease: str, values: dict[str, object]) -> None:
        own_lease = update(WechatToken).where(WechatToken.app_id == self._app_id, WechatToken.lease == lease)
        with self._records.write() as tx:
            tx.execute(own_lease.values(lease=None, lease_until=None, **values))
