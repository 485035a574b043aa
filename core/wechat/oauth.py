"""WeChat web sign-in (OAuth, snsapi_base): gives the openid of a page's visitor without asking for consent.

wechatpy's own has no time-out, doesn't quote `state`, and stores the last person in the client, so it is not used.
"""

from urllib.parse import urlencode

from config.settings import WechatSettings as Settings
from core.wechat.errcodes import WechatError
from core.wechat.http_session import HttpSession

_CODE_SPENT = frozenset(("40029", "40163", "41008", "42003"))
"""Errcodes about the code: wrong, used, missing, too old. All others are about the account."""


class NotIdentified(Exception):
    """WeChat did not identify the visitor, or the code was used before. If `temporary`, a new code may work."""

    def __init__(self, why: str, *, temporary: bool = False) -> None:
        super().__init__(why)
        self.temporary = temporary


class OAuth:
    """Sign-in of one official account. Thread-safe."""

    def __init__(self, settings: Settings, secret: str) -> None:
        self._settings = settings
        self._secret = secret
        self._http = HttpSession(settings.base_url, settings.timeout)

    def authorize_url(self, redirect_uri: str, state: str) -> str:
        """Return the URL to redirect the phone to; WeChat sends it back to `redirect_uri` with `code` and `state`.

        `state` must be random, used once, and bound to a cookie of the browser by the caller.
        """
        parameters = {
            "appid": self._settings.app_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": "snsapi_base",
            "state": state,
        }
        # WeChat compares the parameters in this order.
        return f"{self._settings.oauth_url}/connect/oauth2/authorize?{urlencode(parameters)}#wechat_redirect"

    def openid(self, code: str) -> str:
        """Return the openid for a single-use `code`.

        Raises: NotIdentified, also for the visitor of a snapshot page (快照页), whose openid is not a person's.
        """
        parameters = {
            "appid": self._settings.app_id,
            "secret": self._secret,
            "code": code,
            "grant_type": "authorization_code",
        }
        try:
            answer = self._http.json("get", f"{self._settings.base_url}/sns/oauth2/access_token", params=parameters)
        except WechatError as error:
            raise NotIdentified(str(error), temporary=error.code not in _CODE_SPENT) from None
        if answer.get("is_snapshotuser"):
            msg = "a snapshot page was opened; the page has to be opened in full"
            raise NotIdentified(msg)
        openid = answer.get("openid")
        if not isinstance(openid, str) or not openid:
            msg = "the answer names no openid"
            raise NotIdentified(msg)
        return openid
