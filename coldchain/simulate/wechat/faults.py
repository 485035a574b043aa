"""Faults between Coldchain and WeChat, on demand: of one endpoint, for a number of requests.

POST /sim/faults  {"endpoint": "message/template/send", "kind": "lost_answer", "times": 1}
"""

import asyncio
import socket
import struct
from collections import deque
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WechatFaultKind = Literal["hang", "slow", "reset", "http_502", "html", "truncated", "lost_answer", "errcode"]
REMEMBERED_CALLS = 20_000


class WechatFault(msgspec.Struct, kw_only=True):
    """One fault. With `lost_answer`, `truncated` and `slow` the request takes effect; with the others it doesn't."""

    endpoint: Annotated[str, Meta(min_length=1, description="how its path ends, such as message/template/send")]
    kind: WechatFaultKind
    times: Annotated[int, Meta(ge=1, description="requests that it hits")] | None = 1
    """Number of requests, or None until the fault is cleared."""
    every: Annotated[int, Meta(ge=1, description="2 hits every second request")] = 1
    seconds: Annotated[float, Meta(ge=0, description="of hang and slow")] = 0.0
    errcode: int = -1
    errmsg: str = "system error"
    seen: int = 0


class Call(msgspec.Struct, frozen=True):
    """Request that came in, with the fault that hit it."""

    path: str
    fault: WechatFaultKind | None


class Faults:
    """ASGI middleware that applies the faults and records all requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.planned: list[WechatFault] = []
        self.calls: deque[Call] = deque(maxlen=REMEMBERED_CALLS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the next fault of its endpoint if there is one."""
        if scope["type"] != "http" or scope["path"].startswith("/sim/"):
            await self._app(scope, receive, send)
            return
        fault = self._next(scope["path"])
        self.calls.append(Call(scope["path"], fault.kind if fault else None))
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.kind in ("slow", "hang"):
            await asyncio.sleep(fault.seconds)
        if fault.kind == "slow":
            await self._app(scope, receive, send)
        elif fault.kind in ("hang", "reset"):
            await _reset(receive, send)
        elif fault.kind == "lost_answer":
            await self._answered(scope, receive)
            await _reset(receive, send)
        else:
            body = await self._answered(scope, receive) if fault.kind == "truncated" else b""
            await _instead(fault, body)(scope, receive, send)

    def _next(self, path: str) -> WechatFault | None:
        for fault in self.planned:
            if not path.endswith(fault.endpoint):
                continue
            fault.seen += 1
            if fault.seen % fault.every:
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self.planned.remove(fault)
            return fault
        return None

    async def _answered(self, scope: Scope, receive: Receive) -> bytes:
        """Let the platform handle the request, and return the body of its answer without sending it."""
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            parts.append(message.get("body", b""))

        await self._app(scope, receive, keep)
        return b"".join(parts)


def _instead(fault: WechatFault, body: bytes) -> Response:
    """Return the answer that a fault puts in the place of the platform's."""
    if fault.kind == "http_502":
        return HTMLResponse("<h1>502 Bad Gateway</h1>", 502)
    if fault.kind == "html":
        return HTMLResponse("<!DOCTYPE html><title>Wi-Fi</title>请先登录")
    if fault.kind == "truncated":
        return Response(body[: len(body) // 2], media_type="application/json")
    error = {"errcode": fault.errcode, "errmsg": f"{fault.errmsg} rid: 0-0-0"}
    return Response(msgspec.json.encode(error), media_type="application/json")


async def _reset(receive: Receive, send: Send) -> None:
    """Break the connection with a TCP reset. ASGI has no means for it, so this uses uvicorn's transport."""
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined] # uvicorn's own request
    plain: socket.socket = transport.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
