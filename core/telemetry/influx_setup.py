"""Makes what readings need in an InfluxDB 2: organisation, bucket, and two tokens that can do no more than they must.

Every step looks first, so that it can be run again at any time, also after it was interrupted.
"""

import secrets as random
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import requests

from config.secrets import Secrets
from config.settings import Telemetry as TelemetrySettings
from core.telemetry.port import Unavailable

USER = "coldchain"


class NeedsOperator(Exception):
    """Somebody else set the server up, and only a token of theirs can do what is left to do."""


class Server:
    """The part of InfluxDB's HTTP API that sets it up."""

    def __init__(self, settings: TelemetrySettings) -> None:
        self._settings = settings
        self._session = requests.Session()
        self._session.verify = settings.tls_ca or True

    def version(self) -> str:
        """Return the server's version.

        Raises: Unavailable.
        """
        return self._asked("GET", "/ping").headers.get("X-Influxdb-Version", "")

    def is_fresh(self) -> bool:
        """Whether nobody has set it up yet."""
        return bool(self._asked("GET", "/api/v2/setup").json()["allowed"])

    def begin(self, operator: str) -> None:
        """Set up a fresh server, with a token that was decided (and kept) before, so that it can't get lost."""
        settings = self._settings
        names = {"username": USER, "password": random.token_urlsafe(24), "org": settings.org, "bucket": settings.bucket}
        self._asked("POST", "/api/v2/setup", body={**names, "token": operator, "retentionPeriodSeconds": 0})

    def organisation(self, operator: str) -> tuple[str, bool]:
        """Return the id of the organisation, and whether it had to be made."""
        answer = self._asked("GET", "/api/v2/orgs", operator, {"org": self._settings.org}, bear=(HTTPStatus.NOT_FOUND,))
        if answer.ok and (found := answer.json()["orgs"]):
            return str(found[0]["id"]), False
        made = self._asked("POST", "/api/v2/orgs", operator, body={"name": self._settings.org})
        return str(made.json()["id"]), True

    def bucket(self, operator: str, org: str) -> tuple[str, bool]:
        """Return the id of the bucket, which keeps for ever unless told otherwise, and whether it had to be made."""
        if found := self._buckets(operator):
            return found[0], False
        body = {"orgID": org, "name": self._settings.bucket, "retentionRules": []}
        taken = (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
        answer = self._asked("POST", "/api/v2/buckets", operator, body=body, bear=taken)
        if answer.ok:
            return str(answer.json()["id"]), True
        if found := self._buckets(operator):  # another made it meanwhile
            return found[0], False
        msg = f"{self._settings.url} makes no bucket {self._settings.bucket}: {answer.text[:300]}"
        raise Unavailable(msg)

    def token(self, operator: str, org: str, bucket: str, *, name: str, actions: tuple[str, ...]) -> str:
        """Return a new token that may do `actions` (read, write) on the bucket alone."""
        resource = {"type": "buckets", "id": bucket, "orgID": org}
        body = {
            "orgID": org,
            "description": name,
            "permissions": [{"action": action, "resource": resource} for action in actions],
        }
        return str(self._asked("POST", "/api/v2/authorizations", operator, body=body).json()["token"])

    def lacks(self, token: str, *, write: bool) -> str:
        """Return what keeps a token from serving, empty when it does.

        Raises: Unavailable.
        """
        settings = self._settings
        if not token:
            return "there is no token"
        denied = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
        where = {"org": settings.org, "bucket": settings.bucket}
        query = {"query": f'from(bucket: "{settings.bucket}") |> range(start: -1s) |> limit(n: 1)'}
        answer = self._asked("POST", "/api/v2/query", token, {"org": settings.org}, query, bear=denied)
        if answer.ok and write:
            # Nothing is written: whoever may write is told that there were no points.
            answer = self._asked("POST", "/api/v2/write", token, where, bear=(*denied, HTTPStatus.BAD_REQUEST))
        if answer.status_code in denied:
            return f"the token may not {'write' if write else 'read'} bucket {settings.bucket} of {settings.org}"
        return ""

    def keeps_s(self, token: str) -> int:
        """Return after how many seconds the bucket deletes what is in it, 0 for never or a bucket that isn't there.

        Raises: Unavailable.
        """
        denied = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
        answer = self._asked("GET", "/api/v2/buckets", token, {"name": self._settings.bucket}, bear=denied)
        found = answer.json()["buckets"] if answer.ok else []
        rules = [rule["everySeconds"] for bucket in found for rule in bucket["retentionRules"]]
        return min((int(seconds) for seconds in rules if seconds), default=0)

    def _buckets(self, token: str) -> list[str]:
        names = {"name": self._settings.bucket, "org": self._settings.org}
        answer = self._asked("GET", "/api/v2/buckets", token, names, bear=(HTTPStatus.NOT_FOUND,))
        return [str(each["id"]) for each in answer.json()["buckets"]] if answer.ok else []

    def _asked(
        self,
        method: str,
        path: str,
        token: str = "",
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        *,
        bear: tuple[int, ...] = (),
    ) -> requests.Response:
        """Ask, and bear with these answers besides good ones."""
        settings = self._settings
        try:
            answer = self._session.request(
                method,
                settings.url.rstrip("/") + path,
                params=query,
                json=body,
                headers={"Authorization": f"Token {token}"} if token else {},
                timeout=settings.timeout,
            )
        except requests.RequestException as error:
            msg = f"{settings.url} gave no answer: {error}"[:500]
            raise Unavailable(msg) from error
        if not answer.ok and answer.status_code not in bear:
            msg = f"{settings.url} answered {answer.status_code} to {path}: {answer.text[:300]}"
            raise Unavailable(msg)
        return answer


def set_up(settings: TelemetrySettings, kept: Secrets, operator: str, keep: Callable[[Secrets], None]) -> list[str]:
    """Make what is missing and hand each new secret to `keep` before going on; returns what was done.

    `operator` is a token of whoever set the server up, empty where `kept` has one or nothing is missing.
    Raises: NeedsOperator, Unavailable.
    """
    server = Server(settings)
    done: list[str] = []
    if server.is_fresh():
        kept = msgspec.structs.replace(kept, influx_operator=kept.influx_operator or random.token_urlsafe(48))
        keep(kept)
        server.begin(kept.influx_operator)
        done.append(f"{settings.url} set up, with user {USER} (influx_operator in the secrets is its token)")
    slots = {"influx_write": ("read", "write"), "influx_read": ("read",)}
    missing = {
        slot: actions for slot, actions in slots.items() if server.lacks(getattr(kept, slot), write="write" in actions)
    }
    operator = operator or kept.influx_operator
    if missing and not operator:
        msg = f"{settings.url} was set up before; give a token of its administrator in INFLUX_TOKEN, this once"
        raise NeedsOperator(msg)
    if not missing:
        return [
            *done,
            f"bucket {settings.bucket} of {settings.org} and both tokens are there already; left as they are",
        ]
    org, made = server.organisation(operator)
    done.append(f"organisation {settings.org} {'made' if made else 'is there'}")
    bucket, made = server.bucket(operator, org)
    done.append(f"bucket {settings.bucket} {'made' if made else 'is there'}")
    for slot, actions in missing.items():
        name = f"coldchain: {' and '.join(actions)} {settings.bucket}"
        kept = msgspec.structs.replace(kept, **{slot: server.token(operator, org, bucket, name=name, actions=actions)})
        keep(kept)
        done.append(f"token {slot} made and kept in the secrets: it may {' and '.join(actions)} this bucket alone")
    return done
