"""How an official account is spoken to: wechatpy's client with its hazards taken out.

Every call of the client, also through its `user`, `template`, `qrcode` …: uses the shared token; after a rejected one
takes another and asks exactly once more; is bounded in time; and ends in an object with errcode 0 or in a WechatError.
wechatpy 1.8 by itself fetches without end while a token stays bad, has no time-out for the fetch and fetches once a
thread, hands out half an answer or a proxy's page as a success, and knows one address alone and no `stable_token`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import requests
from wechatpy import WeChatClient

from config.settings import Wechat as Settings
from core.db.engine import Records
from core.wechat.errcodes import NoAnswer, Verdict, WechatError
from core.wechat.http import Http, checked
from core.wechat.token import Fetched, Tokens

PATIENCE = 6
"""A call is over within this many time-outs: token (2), call, token again (2), call."""


class _Tokens(Protocol):
    def get(self) -> str: ...

    def renew(self, bad: str) -> str: ...


class WechatClient(WeChatClient):  # type: ignore[misc] # wechatpy has no types
    """One official account. Used by several threads at once."""

    def __init__(self, base_url: str, app_id: str, secret: str, tokens: _Tokens, *, http: Http) -> None:
        """`base_url` is https://api.weixin.qq.com, or a simulator's."""
        super().__init__(app_id, secret, auto_retry=False)
        self.API_BASE_URL = f"{base_url}/cgi-bin/"
        self._tokens = tokens
        self._http = http

    @property
    def access_token(self) -> str:
        """The token that serves now; wechatpy's own session is not used."""
        return self._tokens.get()

    def fetch_access_token(self) -> None:
        """Never called: `Tokens` fetches."""
        raise NotImplementedError

    def send_template(self, body: bytes) -> str:
        """Send a template message exactly as it is; returns its MsgID as text.

        Raises: WechatError.
        """
        said: Mapping[str, Any] = self.post("message/template/send", data=body)
        if "errcode" not in said:
            raise WechatError(NoAnswer.NO_ERRCODE, "an answer without errcode is no receipt")
        return str(said.get("msgid", ""))

    def _request(self, method: str, url_or_endpoint: str, **asked: Any) -> Any:  # noqa: ANN401 (wechatpy's own)
        params = asked.pop("params", None) or {}
        token = self._tokens.get()
        try:
            return super()._request(method, url_or_endpoint, params={**params, "access_token": token}, **asked)
        except WechatError as error:
            if error.means is not Verdict.TOKEN:
                raise
        token = self._tokens.renew(token)
        try:
            return super()._request(method, url_or_endpoint, params={**params, "access_token": token}, **asked)
        except WechatError as error:
            if error.means is not Verdict.TOKEN:
                raise
            raise WechatError(error.code, "a new token was rejected too", means=Verdict.ACCOUNT) from None

    def _handle_result(
        self,
        res: requests.Response,
        method: str | None = None,  # noqa: ARG002 (wechatpy passes it)
        url: str | None = None,  # noqa: ARG002
        result_processor: Callable[[dict[str, Any]], Any] | None = None,
        **_asked: object,
    ) -> Any:  # noqa: ANN401 (wechatpy's own)
        said = checked(res)
        return result_processor(said) if result_processor else said


def connect(settings: Settings, secret: str, records: Records) -> WechatClient:
    """Make the client of the configured account, with the token that all processes share."""
    http = Http(settings.base_url, settings.timeout)
    tokens = Tokens(records, settings.app_id, fetching(settings, secret, http), timeout=settings.timeout)
    return WechatClient(settings.base_url, settings.app_id, secret, tokens, http=http)


def fetching(settings: Settings, secret: str, http: Http) -> Callable[[bool], Fetched]:
    """Return what asks `stable_token`: isolated from the plain token, so that no other program can end ours."""

    def fetch(force: bool) -> Fetched:  # noqa: FBT001 (the one question there is)
        credential = {"grant_type": "client_credential", "appid": settings.app_id, "secret": secret}
        body = msgspec.json.encode({**credential, "force_refresh": force})
        said = http.json("post", f"{settings.base_url}/cgi-bin/stable_token", data=body)
        try:
            return Fetched(str(said["access_token"]), float(said["expires_in"]))
        except (KeyError, TypeError, ValueError):
            raise WechatError(NoAnswer.NOT_JSON, "stable_token answered without a token") from None

    return fetch


def try_token(settings: Settings, secret: str) -> str | None:
    """Ask for a token, as `coldchain check` does; returns what is wrong, None when all is well."""
    try:
        fetching(settings, secret, Http(settings.base_url, settings.timeout))(False)
    except WechatError as error:
        return str(error)
    return None
