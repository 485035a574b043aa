"""Outermost middleware of the app: request id, security headers, one log line and one count for each request.

Plain ASGI, so that it also covers answers that the framework makes by itself. Paths are logged and counted by their
route, never as requested: the path of a signed link is the key to it.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from secrets import token_hex

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.problems import answer
from core.runtime.clock import monotonic
from core.runtime.logs import logger

log = logger(__name__)

LARGEST_BODY = 131_072
UNLOGGED_ROUTES = ("/healthz", "/readyz", "/metrics", "/assets/{file}")
"""Routes that machines request all day: counted, not logged."""

CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class RequestMiddleware:
    """Outermost middleware of the app."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Mapping[int, str], *, behind_tls: bool) -> None:
        """`paths`: the full path of each route, by the id of the route's object."""
        self._app = app
        self._paths = paths
        self._metrics = metrics
        self._headers = HEADERS | ({"strict-transport-security": "max-age=31536000"} if behind_tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection (the app's start and end) pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange(receive, send, {**self._headers, "x-request-id": request_id})
        began = monotonic()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._serve(scope, receive, exchange)
            finally:
                self._note(scope, exchange.status, monotonic() - began)

    async def _serve(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> None:
        request = Request(scope)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            log.exception("request failed", route=self._route(scope))
            if exchange.status:
                raise  # part of the answer is sent already: the server must break the connection
            await answer(request, error)(scope, receive, exchange.send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = self._route(scope), scope["method"]
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        if route not in UNLOGGED_ROUTES or status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.info("request answered", method=method, route=route, status=status, ms=round(seconds * 1000, 1))

    def _route(self, scope: Scope) -> str:
        return self._paths.get(id(scope.get("route")), "unknown")


class _Exchange:
    """Body of one request, bounded, and its answer, with security headers."""

    def __init__(self, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._read = 0
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > LARGEST_BODY:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)  # any other error would become a 400
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)


def _request_id(given: str | None) -> str:
    """Return the id that a proxy gave, if it has the form of one; any other text could forge log lines."""
    return given if given and re.fullmatch(r"[A-Za-z0-9-]{8,64}", given) else token_hex(8)
