"""Who holds the phone: WeChat's sign-in of a page (snsapi_base), which tells an openid and asks the person nothing.

wechatpy's own has no time-out, leaves `state` unquoted and keeps the last person in itself, so this is ours.
"""

from urllib.parse import urlencode

from config.settings import Wechat as Settings
from core.wechat.errcodes import WechatError
from core.wechat.http import Http

_CODE_SPENT = frozenset(("40029", "40163", "41008", "42003"))
"""Errcodes about the code that the phone came with: wrong, used, missing, too old. All others are about the account."""


class NotIdentified(Exception):
    """WeChat did not say who it is, or the code had been used. `temporary`: asking again with a new code may help."""

    def __init__(self, why: str, *, temporary: bool = False) -> None:
        super().__init__(why)
        self.temporary = temporary


class OAuth:
    """The sign-in of one official account. Used by several threads at once."""

    def __init__(self, settings: Settings, secret: str) -> None:
        self._settings = settings
        self._secret = secret
        self._http = Http(settings.base_url, settings.timeout)

    def authorize_url(self, redirect_uri: str, state: str) -> str:
        """Return where to send the phone; it comes back to `redirect_uri` with `code` and `state`.

        `state` has to be random, used once, and bound to the browser's cookie by the caller.
        """
        asked = {
            "appid": self._settings.app_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": "snsapi_base",
            "state": state,
        }
        # WeChat compares the parameters in this order.
        return f"{self._settings.oauth_url}/connect/oauth2/authorize?{urlencode(asked)}#wechat_redirect"

    def openid(self, code: str) -> str:
        """Return who came back with `code`, which serves once.

        Raises: NotIdentified; also for a snapshot page's visitor (快照页), whose openid is nobody's.
        """
        asked = {
            "appid": self._settings.app_id,
            "secret": self._secret,
            "code": code,
            "grant_type": "authorization_code",
        }
        try:
            said = self._http.json("get", f"{self._settings.base_url}/sns/oauth2/access_token", params=asked)
        except WechatError as error:
            raise NotIdentified(str(error), temporary=error.code not in _CODE_SPENT) from None
        if said.get("is_snapshotuser"):
            msg = "a snapshot page was opened; the page has to be opened in full"
            raise NotIdentified(msg)
        openid = said.get("openid")
        if not isinstance(openid, str) or not openid:
            msg = "the answer names no openid"
            raise NotIdentified(msg)
        return openid
