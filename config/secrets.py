"""Secrets of an installation: one file of mode 0600 in the data folder, created by `coldchain init`.

`broker` has the password of each broker user: that of the services, and one for each gateway, whose user name is its
number.
"""

import os
import secrets as random
from collections.abc import Iterable
from pathlib import Path

import msgspec

from config.text_file import UnreadableFile, decode
from config.texts import say


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the secrets file. Keys are hex.

    An edge box has only `broker`, with its own gateways.
    """

    link_keys: dict[str, str] = {}
    """Key id → key for the links in messages. The first key signs; all of them, also old ones, verify."""
    field_key: str = ""
    """AES-256 key for phone and identity numbers."""
    index_key: str = ""
    """Key of their blind index."""
    broker: dict[str, str]
    services: tuple[str, ...] = ()
    """Broker users that aren't gateways. No gateway may have such a name as its number."""
    wechat_secret: str = ""
    influx_write: str = ""
    """InfluxDB token of the writer; it may only read and write the bucket of readings."""
    influx_read: str = ""
    """InfluxDB token of all other services; it may only read that bucket."""
    influx_operator: str = ""
    """InfluxDB token with all permissions, of a server that `coldchain telemetry init` set up; no service needs it."""


class NoSecrets(Exception):
    """The file is missing, readable by others, damaged or incomplete; the text says what to do."""


def path_in(data_dir: str) -> Path:
    """Return the path of the secrets file of a data folder."""
    return Path(data_dir) / "secrets.json"


def read(data_dir: str, *, edge: bool = False) -> Secrets:
    """Read the secrets. Only on an `edge` box may the file lack the keys.

    Raises: NoSecrets.
    """
    path = path_in(data_dir)
    try:
        if path.stat().st_mode & 0o077:
            raise NoSecrets(say("secrets.open", path=path))
        secrets = msgspec.json.decode(decode(path.read_bytes(), str(path)), type=Secrets)
    except FileNotFoundError:
        raise NoSecrets(say("secrets.missing", path=path)) from None
    except OSError as error:
        raise NoSecrets(say("secrets.unreadable", path=path, problem=error.strerror)) from None
    except (msgspec.MsgspecError, UnreadableFile) as error:
        raise NoSecrets(say("secrets.damaged", path=path, problem=error)) from None
    if not edge and not (secrets.link_keys and secrets.field_key and secrets.index_key):
        raise NoSecrets(say("secrets.no_keys", path=path))
    return secrets


def no_gateway_password(number: str, data_dir: str) -> str:
    """Return the message that a gateway has no broker password."""
    return say("secrets.no_gateway", path=path_in(data_dir), number=number)


def no_service_password(username: str, data_dir: str) -> str:
    """Return the message that the broker user of the services has no password."""
    return say("secrets.no_service", username=repr(username), path=path_in(data_dir))


def write(data_dir: str, secrets: Secrets) -> None:
    """Replace the file atomically, with mode 0600."""
    path = path_in(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(secrets), indent=2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def encoded(secrets: Secrets) -> bytes:
    """Return the content of the file, without empty fields."""
    non_empty = {name: value for name, value in msgspec.structs.asdict(secrets).items() if value}
    return msgspec.json.format(msgspec.json.encode(non_empty), indent=2)


def of_edge_box(secrets: Secrets, gateways: Iterable[str], data_dir: str) -> Secrets:
    """Return the secrets for the edge box of these gateways: their own passwords.

    Raises: NoSecrets for a number without a password.
    """
    known = {number: password for number, password in secrets.broker.items() if number not in secrets.services}
    for number in gateways:
        if number not in known:
            raise NoSecrets(no_gateway_password(number, data_dir))
    return Secrets(broker={number: known[number] for number in gateways})


def fresh(service_user: str) -> Secrets:
    """Generate secrets for an installation whose services sign in to the broker as `service_user`."""
    return Secrets(
        link_keys={"1": random.token_hex(32)},
        field_key=random.token_hex(32),
        index_key=random.token_hex(32),
        broker={service_user: random.token_urlsafe(24)},
        services=(service_user,),
    )


def gateway_password(data_dir: str, number: str) -> str:
    """Return the broker password of a gateway, and issue one if it has none.

    Raises: ValueError for a number that is the name of a service.
    """
    issue_gateway_passwords(data_dir, [number])
    return read(data_dir).broker[number]


def issue_gateway_passwords(data_dir: str, numbers: Iterable[str]) -> dict[str, str]:
    """Issue a broker password to each gateway that has none, in one write; return the issued ones.

    Raises: ValueError for a number that is the name of a service.
    """
    secrets = read(data_dir)
    issued: dict[str, str] = {}
    for number in numbers:
        if number in secrets.services:
            raise ValueError(say("secrets.service_number", number=number))
        if number not in secrets.broker:
            issued[number] = random.token_urlsafe(24)
    if issued:
        write(data_dir, msgspec.structs.replace(secrets, broker={**secrets.broker, **issued}))
    return issued
