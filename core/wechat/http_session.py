"""HTTP client for WeChat's servers: requests bounded in time, one connection for each thread, no secrets in errors.

requests' own errors contain the URL with its `access_token` or `secret`, so none of them leaves this module.
"""

import ipaddress
import threading
from typing import Any
from urllib.parse import urlsplit

import requests

from core.wechat.errcodes import NoAnswer, WechatError

_CONNECT_SHARE = 0.3
"""Share of the time-out for connecting; the rest is for the answer."""


class HttpSession:
    """Replacement of the `requests.Session` in wechatpy's client. Thread-safe."""

    def __init__(self, base_url: str, timeout: float) -> None:
        """Take the time-out in seconds, for connecting and for each wait for a piece of the answer together."""
        self._timeout = (timeout * _CONNECT_SHARE, timeout * (1 - _CONNECT_SHARE))
        self._direct = _is_loopback(base_url)
        self._thread_local = threading.local()

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # noqa: ANN401 (requests' own)
        """Send a request. A redirect is not followed, since only WeChat may see a token.

        Raises: WechatError for anything except an answer with status 200.
        """
        options |= {"timeout": self._timeout, "allow_redirects": False}
        try:
            answer = self._session().request(method, url, **options)
        except requests.Timeout:
            code: str = NoAnswer.TIMEOUT
        except requests.RequestException as error:
            code = NoAnswer.NO_CONNECTION if isinstance(error, requests.ConnectionError) else NoAnswer.BROKEN
        else:
            if answer.status_code == requests.codes.ok:
                return answer
            code = f"http_{answer.status_code}"
        raise WechatError(code, f"{method.upper()} {urlsplit(url).path}")

    def json(self, method: str, url: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 (requests' own)
        """Send a request and return the JSON object of the answer.

        Raises: WechatError, also for an error code in the object.
        """
        return checked(self.request(method, url, **options))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._thread_local, "session", None)
        if session is None:
            session = self._thread_local.session = requests.Session()
            # Between processes of one machine a proxy of the environment must not be used.
            session.trust_env = not self._direct
        return session


def checked(answer: requests.Response) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises: WechatError if it isn't one (a proxy's page, half an answer), or has an errcode other than 0.
    """
    try:
        body = answer.json()
        code = int(body.get("errcode", 0))
    except (ValueError, TypeError, AttributeError):
        raise WechatError(NoAnswer.NOT_JSON, f"{urlsplit(answer.url).path}: {len(answer.content)} bytes") from None
    if code:
        raise WechatError(code, str(body.get("errmsg", ""))[:200])
    return dict(body)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
