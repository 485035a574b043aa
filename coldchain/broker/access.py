"""Who may sign in to the embedded broker, and what each may say and hear.

The same rules as in the broker configuration that ships for production: a gateway, whose user name is its number, says
`cc/v1/<shard>/<number>/up/#` and hears `cc/v1/<shard>/<number>/down/#`; the services' user may do everything.
"""

import hmac

from config import secrets
from config.secrets import NoSecrets
from core.runtime.logs import logger
from core.wire.topics import GATEWAY_NUMBER, GatewayNumber, shard_of

log = logger(__name__)

_NOBODY = "no user has this, so that an unknown name takes as long as a wrong password"


class Access:
    """Answers from the secrets of a data folder, read again whenever the file changes.

    So a gateway that `coldchain import` has just issued a password to signs in without a restart. A password that was
    taken away ends nothing that is connected already.
    """

    def __init__(self, data_dir: str, service_user: str) -> None:
        self._data_dir = data_dir
        self._path = secrets.path_in(data_dir)
        self._service_user = service_user
        self._stamp: tuple[int, int, int] | None = None
        self._passwords: dict[str, str] = {}

    def may_sign_in(self, user: str | None, password: str | None) -> bool:
        """Whether the password is that of the user. Nobody signs in without a name, or while there are no secrets."""
        self._refresh()
        known = self._passwords.get(user or "")
        same = hmac.compare_digest((known or _NOBODY).encode(), (password or "").encode())
        return same and bool(known) and (user == self._service_user or bool(GATEWAY_NUMBER.fullmatch(user or "")))

    def may_say(self, user: str, topic: str) -> bool:
        """Whether the user may publish on a topic."""
        return user == self._service_user or topic.startswith(_home(user) + "up/")

    def may_hear(self, user: str, topic: str) -> bool:
        """Whether the user may subscribe to a filter, or be sent a message on a topic."""
        return user == self._service_user or topic.startswith(_home(user) + "down/")

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._passwords = secrets.read(self._data_dir).broker
                self._stamp = stamp
        except (OSError, NoSecrets) as error:
            log.warning("nobody can sign in to the broker", reason=str(error))
            self._passwords = {}
            self._stamp = None


def _home(user: str) -> str:
    """Return where a gateway's topics begin. A number holds no wildcard and no slash, so a prefix decides."""
    gw = GatewayNumber(user)
    return f"cc/v1/{shard_of(gw)}/{gw}/"
