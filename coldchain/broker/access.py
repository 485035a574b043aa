"""Access rules of the embedded broker: sign-in, and the topics of each user.

The rules are those of the Mosquitto configuration in deploy/. A gateway, whose user name is its number, may publish on
`cc/v1/<shard>/<number>/up/#` and subscribe to `cc/v1/<shard>/<number>/down/#`. The services' user may do everything.
Tried by tests/integration/test_broker.py.
"""

import hmac

from config import secrets
from config.secrets import NoSecrets
from core.runtime.logs import logger
from core.wire.shards import GatewayNumber, shard_of
from core.wire.topics import GATEWAY_NUMBER

log = logger(__name__)

_NOBODY = "no user has this, so that an unknown name takes as long as a wrong password"


class BrokerAccess:
    """Access rules over the secrets of a data folder, which are read again whenever their file changes.

    So a gateway to which `coldchain import` has issued a password can sign in without a restart. Removing a password
    does not end connections that are open.
    """

    def __init__(self, data_dir: str, service_user: str) -> None:
        self._data_dir = data_dir
        self._path = secrets.path_in(data_dir)
        self._service_user = service_user
        self._stamp: tuple[int, int, int] | None = None
        self._passwords: dict[str, str] = {}

    def may_sign_in(self, user: str | None, password: str | None) -> bool:
        """Return whether the password is that of the user; never without a user name or without secrets."""
        self._refresh()
        expected = self._passwords.get(user or "")
        matches = hmac.compare_digest((expected or _NOBODY).encode(), (password or "").encode())
        return matches and bool(expected) and (user == self._service_user or bool(GATEWAY_NUMBER.fullmatch(user or "")))

    def may_say(self, user: str, topic: str) -> bool:
        """Return whether the user may publish on a topic."""
        return user == self._service_user or topic.startswith(_home(user) + "up/")

    def may_hear(self, user: str, topic: str) -> bool:
        """Return whether the user may subscribe to a filter, or receive a message on a topic."""
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
    """Return the prefix of a gateway's topics. A number has no wildcard and no slash, so comparing prefixes is safe."""
    gw = GatewayNumber(user)
    return f"cc/v1/{shard_of(gw)}/{gw}/"
