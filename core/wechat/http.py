"""How WeChat's servers are asked: every request bounded in time, one connection a thread, no error that tells a secret.

requests' own errors name the address with its `access_token` or `secret`, so none of them leaves this module.
"""

import ipaddress
import threading
from typing import Any
from urllib.parse import urlsplit

import requests

from core.wechat.errcodes import NoAnswer, WechatError

_CONNECT_SHARE = 0.3
"""Of the time-out; the rest is for the answer, so that both together keep it."""


class Http:
    """Takes the place of the `requests.Session` in wechatpy's client. Used by several threads."""

    def __init__(self, base_url: str, timeout: float) -> None:
        """`timeout`: seconds for connecting and each wait for a piece of the answer together."""
        self._timeout = (timeout * _CONNECT_SHARE, timeout * (1 - _CONNECT_SHARE))
        self._direct = _is_loopback(base_url)
        self._mine = threading.local()

    def request(self, method: str, url: str, **asked: Any) -> requests.Response:  # noqa: ANN401 (requests' own)
        """Ask; a redirect is not followed, since nobody but WeChat may see a token.

        Raises: WechatError for anything but an answer with status 200.
        """
        asked |= {"timeout": self._timeout, "allow_redirects": False}
        try:
            answer = self._session().request(method, url, **asked)
        except requests.Timeout:
            code: str = NoAnswer.TIMEOUT
        except requests.RequestException as error:
            code = NoAnswer.NO_CONNECTION if isinstance(error, requests.ConnectionError) else NoAnswer.BROKEN
        else:
            if answer.status_code == requests.codes.ok:
                return answer
            code = f"http_{answer.status_code}"
        raise WechatError(code, f"{method.upper()} {urlsplit(url).path}")

    def json(self, method: str, url: str, **asked: Any) -> dict[str, Any]:  # noqa: ANN401 (requests' own)
        """Ask and return the object that came back; an error code in it is raised.

        Raises: WechatError.
        """
        return checked(self.request(method, url, **asked))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._mine, "session", None)
        if session is None:
            session = self._mine.session = requests.Session()
            # A proxy of the environment has no business between processes of one machine.
            session.trust_env = not self._direct
        return session


def checked(answer: requests.Response) -> dict[str, Any]:
    """Return the object of an answer.

    Raises: WechatError when it isn't one (a proxy's page, half an answer), or has an errcode other than 0.
    """
    try:
        said = answer.json()
        code = int(said.get("errcode", 0))
    except (ValueError, TypeError, AttributeError):
        raise WechatError(NoAnswer.NOT_JSON, f"{urlsplit(answer.url).path}: {len(answer.content)} bytes") from None
    if code:
        raise WechatError(code, str(said.get("errmsg", ""))[:200])
    return dict(said)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
