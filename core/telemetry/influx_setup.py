"""Setup of InfluxDB 2 for readings: organisation, bucket, and two tokens with the least permissions that are needed.

Every step checks first what exists. So the setup can be run again at any time, also after an interruption.
"""

import secrets as random
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import requests

from config.secrets import Secrets
from config.settings import TelemetrySettings
from core.telemetry.port import TelemetryUnavailable

USER = "coldchain"


class NeedsOperator(Exception):
    """The server was set up by somebody else, and the remaining steps need a token of its administrator."""


class Server:
    """Client of the setup part of InfluxDB's HTTP API."""

    def __init__(self, settings: TelemetrySettings) -> None:
        self._settings = settings
        self._session = requests.Session()
        self._session.verify = settings.tls_ca or True

    def version(self) -> str:
        """Return the server's version.

        Raises: TelemetryUnavailable.
        """
        return self._request("GET", "/ping").headers.get("X-Influxdb-Version", "")

    def is_fresh(self) -> bool:
        """Return whether the server has not been set up yet."""
        return bool(self._request("GET", "/api/v2/setup").json()["allowed"])

    def begin(self, operator: str) -> None:
        """Set up a fresh server with an operator token that was saved before, so that it can't get lost."""
        settings = self._settings
        names = {"username": USER, "password": random.token_urlsafe(24), "org": settings.org, "bucket": settings.bucket}
        self._request("POST", "/api/v2/setup", body={**names, "token": operator, "retentionPeriodSeconds": 0})

    def organisation(self, operator: str) -> tuple[str, bool]:
        """Return the id of the organisation, and whether it was created now."""
        query = {"org": self._settings.org}
        answer = self._request("GET", "/api/v2/orgs", operator, query, accepted=(HTTPStatus.NOT_FOUND,))
        if answer.ok and (orgs := answer.json()["orgs"]):
            return str(orgs[0]["id"]), False
        created = self._request("POST", "/api/v2/orgs", operator, body={"name": self._settings.org})
        return str(created.json()["id"]), True

    def bucket(self, operator: str, org: str) -> tuple[str, bool]:
        """Return the id of the bucket, and whether it was created now. A new bucket keeps readings for ever."""
        if ids := self._buckets(operator):
            return ids[0], False
        body = {"orgID": org, "name": self._settings.bucket, "retentionRules": []}
        taken = (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
        answer = self._request("POST", "/api/v2/buckets", operator, body=body, accepted=taken)
        if answer.ok:
            return str(answer.json()["id"]), True
        if ids := self._buckets(operator):  # another process created it meanwhile
            return ids[0], False
        msg = f"{self._settings.url} makes no bucket {self._settings.bucket}: {answer.text[:300]}"
        raise TelemetryUnavailable(msg)

    def token(self, operator: str, org: str, bucket: str, *, name: str, actions: tuple[str, ...]) -> str:
        """Create a token for `actions` (read, write) on this bucket only, and return it."""
        resource = {"type": "buckets", "id": bucket, "orgID": org}
        body = {
            "orgID": org,
            "description": name,
            "permissions": [{"action": action, "resource": resource} for action in actions],
        }
        return str(self._request("POST", "/api/v2/authorizations", operator, body=body).json()["token"])

    def lacks(self, token: str, *, write: bool) -> str:
        """Return why a token can't be used, empty if it can.

        Raises: TelemetryUnavailable.
        """
        settings = self._settings
        if not token:
            return "there is no token"
        denied = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
        where = {"org": settings.org, "bucket": settings.bucket}
        query = {"query": f'from(bucket: "{settings.bucket}") |> range(start: -1s) |> limit(n: 1)'}
        answer = self._request("POST", "/api/v2/query", token, {"org": settings.org}, query, accepted=denied)
        if answer.ok and write:
            # An empty write stores nothing: a token that may write gets 400, since there are no points.
            answer = self._request("POST", "/api/v2/write", token, where, accepted=(*denied, HTTPStatus.BAD_REQUEST))
        if answer.status_code in denied:
            return f"the token may not {'write' if write else 'read'} bucket {settings.bucket} of {settings.org}"
        return ""

    def keeps_s(self, token: str) -> int:
        """Return the retention of the bucket in seconds; 0 if it never deletes, or doesn't exist.

        Raises: TelemetryUnavailable.
        """
        denied = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
        answer = self._request("GET", "/api/v2/buckets", token, {"name": self._settings.bucket}, accepted=denied)
        buckets = answer.json()["buckets"] if answer.ok else []
        rules = [rule["everySeconds"] for bucket in buckets for rule in bucket["retentionRules"]]
        return min((int(seconds) for seconds in rules if seconds), default=0)

    def _buckets(self, token: str) -> list[str]:
        names = {"name": self._settings.bucket, "org": self._settings.org}
        answer = self._request("GET", "/api/v2/buckets", token, names, accepted=(HTTPStatus.NOT_FOUND,))
        return [str(bucket["id"]) for bucket in answer.json()["buckets"]] if answer.ok else []

    def _request(
        self,
        method: str,
        path: str,
        token: str = "",
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        *,
        accepted: tuple[int, ...] = (),
    ) -> requests.Response:
        """Send a request; statuses in `accepted` are returned like good answers.

        Raises: TelemetryUnavailable.
        """
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
            raise TelemetryUnavailable(msg) from error
        if not answer.ok and answer.status_code not in accepted:
            msg = f"{settings.url} answered {answer.status_code} to {path}: {answer.text[:300]}"
            raise TelemetryUnavailable(msg)
        return answer


def set_up(settings: TelemetrySettings, kept: Secrets, operator: str, keep: Callable[[Secrets], None]) -> list[str]:
    """Create what is missing, and pass each new secret to `keep` before the next step; return what was done.

    `operator` is a token of the server's administrator; empty if `kept` has one or nothing is missing.
    Raises: NeedsOperator, TelemetryUnavailable.
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
    org, is_new = server.organisation(operator)
    done.append(f"organisation {settings.org} {'made' if is_new else 'is there'}")
    bucket, is_new = server.bucket(operator, org)
    done.append(f"bucket {settings.bucket} {'made' if is_new else 'is there'}")
    for slot, actions in missing.items():
        name = f"coldchain: {' and '.join(actions)} {settings.bucket}"
        kept = msgspec.structs.replace(kept, **{slot: server.token(operator, org, bucket, name=name, actions=actions)})
        keep(kept)
        done.append(f"token {slot} made and kept in the secrets: it may {' and '.join(actions)} this bucket alone")
    return done
