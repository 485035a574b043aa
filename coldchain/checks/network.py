"""Checks of the network: broker, WeChat, and the port of the web pages."""

import errno
import http.client
import os
import re
import socket
from http import HTTPStatus
from threading import Event

from coldchain.checks.finding import Finding, bad, good, say
from config.secrets import Secrets
from config.settings import Settings
from core.mqtt.client import BrokerAddress, MqttClient
from core.runtime.port_holder import Holder, foreign_holder, holder_of

ANSWER_WITHIN_S = 10.0
LOOPBACK = re.compile(r"https?://(127\.[\d.]+|localhost|\[::1\])(:|/|$)")
"""URLs that only this machine itself can open."""


def broker(settings: Settings, secrets: Secrets | None) -> Finding:
    """Sign in to the broker as the services do.

    An embedded broker need not run, but its port must be free or held by this installation.
    """
    what, where = say("what.broker"), f"{settings.broker.host}:{settings.broker.port}"
    if secrets is None:
        return bad(what, say("secrets.needed"), "coldchain init")
    if not answers(settings.broker.host, settings.broker.port):
        if settings.broker.embedded:
            return good(what, say("broker.embedded", where=where))
        return bad(what, say("network.silent", where=where), say("broker.start"))
    holder = foreign_holder(settings.broker.host, settings.broker.port, settings.data_dir)
    if settings.broker.embedded and holder:
        return bad(what, say("network.held", where=where, holder=holder_text(holder)), say("broker.port"))
    user = settings.broker.username
    bus = MqttClient(
        BrokerAddress.of(settings.broker),
        client_id=f"check-{os.getpid()}",
        username=user,
        password=secrets.broker.get(user, ""),
        clean=True,
        on_message=lambda _message: None,
    )
    bus.start()
    try:
        for _ in range(int(ANSWER_WITHIN_S / 0.05)):
            if bus.connected:
                return good(what, say("broker.good", where=where, user=user))
            Event().wait(0.05)
        problem = bus.problem
    finally:
        bus.stop()
    return bad(what, f"{where}: {problem}", say("broker.mend", user=user))


def wechat(settings: Settings, secrets: Secrets | None) -> Finding:
    """Check the WeChat settings, and ask WeChat for a token."""
    what = say("what.wechat")
    wechat_settings = settings.wechat
    if not wechat_settings.app_id:
        return good(what, say("wechat.none"))
    if not (secrets and secrets.wechat_secret):
        return bad(what, say("wechat.no_secret", app_id=wechat_settings.app_id), say("wechat.put_secret"))
    missing = [name for name in ("template_alarm", "template_recovery") if not getattr(wechat_settings, name)]
    if missing:
        return bad(what, say("wechat.no_template", names=", ".join(missing)), say("wechat.set"))
    from core.wechat.client import try_token  # noqa: PLC0415 (wechatpy is slow to import)

    problem = try_token(wechat_settings, secrets.wechat_secret)
    if problem:
        return bad(what, f"{wechat_settings.base_url}: {problem}", say("wechat.mend"))
    return good(what, say("wechat.good", url=wechat_settings.base_url, app_id=wechat_settings.app_id))


def web_pages(settings: Settings) -> Finding:
    """Check that the port of the web pages is free or held by this installation."""
    what = say("what.web")
    if not re.fullmatch(r"https?://[^/\s]+(/.*)?", settings.public_url):
        return bad(what, say("web.no_address", url=repr(settings.public_url)), say("web.write"))
    host, port = settings.api.host, settings.api.port
    where = f"{host}:{port}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return _not_free(what, where, settings, error)
    only_this_machine = LOOPBACK.match(settings.public_url)
    return good(what, say("web.free_here" if only_this_machine else "web.free", where=where, url=settings.public_url))


def _not_free(what: str, where: str, settings: Settings, error: OSError) -> Finding:
    if error.errno != errno.EADDRINUSE:
        return bad(what, f"{where}: {error.strerror}", say("web.address"))
    holder = holder_of(settings.api.port)
    if holder.is_of(settings.data_dir):
        return good(what, say("web.ours", where=where))
    if holder.data_dir or is_coldchain(settings.api.host, settings.api.port):
        other_folder = holder.data_dir or say("holder.unknown_folder")
        return bad(
            what, say("web.another", where=where, holder=holder_text(holder), folder=other_folder), say("web.port")
        )
    return bad(what, say("network.held", where=where, holder=holder_text(holder)), say("web.port"))


def holder_text(holder: Holder) -> str:
    """Return a text that names the holder of a port."""
    return say("holder.process", name=holder.name, pid=holder.pid) if holder.pid else say("holder.other_user")


def is_coldchain(host: str, port: int) -> bool:
    """Return whether a Coldchain web server answers there: by the text of /healthz and the request id in its header."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_WITHIN_S)
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        has_request_id = re.fullmatch(r"[0-9a-f]{16}", response.headers.get("x-request-id", ""))
        return response.status == HTTPStatus.OK and response.read(16) == b"ok\n" and has_request_id is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def answers(host: str, port: int) -> bool:
    """Return whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_WITHIN_S):
            return True
    except OSError:
        return False
