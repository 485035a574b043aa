"""Pages and controls of the simulator under `/sim/`: phones, people, faults and tokens, for people and tests."""

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from coldchain.simulate.wechat.account import User
from coldchain.simulate.wechat.faults import Faults, WechatFault
from coldchain.simulate.wechat.pages import page
from coldchain.simulate.wechat.platform import Platform, remember

SHOWN = 20


class ControlPages:
    """Endpoints of the simulator itself. Faults never hit them."""

    def __init__(self, platform: Platform, faults: Faults) -> None:
        self._platform = platform
        self._phones = platform.phones
        self._faults = faults

    def routes(self) -> list[Route]:
        return [
            Route("/sim/", self._all_phones),
            Route("/sim/phone/{openid}", self._one_phone),
            Route("/sim/open/{number:int}", self._open),
            Route("/sim/log", self._log),
            Route("/sim/calls", self._calls),
            Route("/sim/users", self._users, methods=["GET", "POST"]),
            Route("/sim/faults", self._plan, methods=["GET", "POST", "DELETE"]),
            Route("/sim/tokens/{act:str}", self._tokens, methods=["POST"]),
        ]

    async def _all_phones(self, _request: Request) -> Response:
        messages = self._phones.received(newest=200)
        phones = [
            (user, [message for message in messages[::-1] if message.openid == user.openid])
            for user in self._phones.users()
        ]
        return HTMLResponse(page("phones.html", phones=phones, templates=self._templates(), shown=3))

    async def _one_phone(self, request: Request) -> Response:
        user = self._phones.user(request.path_params["openid"])
        if user is None:
            return HTMLResponse(page("refused.html"), 404)
        messages = self._phones.received(openid=user.openid, newest=SHOWN)[::-1]
        return HTMLResponse(page("phones.html", phones=[(user, messages)], templates=self._templates(), shown=SHOWN))

    async def _open(self, request: Request) -> Response:
        """Open the link of a message on the phone that got it; from then on this browser is that person's phone."""
        number = request.path_params["number"]
        message = next(iter(self._phones.received(after=number - 1, before=number + 1)), None)
        user = self._phones.user(message.openid) if message else None
        if message is None or user is None or not message.url.startswith(("http://", "https://")):
            return HTMLResponse(page("refused.html"), 404)
        answer = RedirectResponse(message.url, 302)
        remember(answer, user)
        return answer

    async def _log(self, request: Request) -> Response:
        """Return the received messages: `?after=number&openid=`."""
        query = request.query_params
        received = self._phones.received(after=int(query.get("after", 0)), openid=query.get("openid"))
        return _json({"messages": received})

    async def _calls(self, _request: Request) -> Response:
        return _json({"calls": list(self._faults.calls)})

    async def _users(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                users = msgspec.json.decode(await request.body(), type=list[User])
            except msgspec.MsgspecError as error:
                return _json({"problem": str(error)}, 422)
            self._phones.register(users)
        return _json({"users": self._phones.users()})

    async def _plan(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.planned.clear()
        elif request.method == "POST":
            try:
                self._faults.planned.append(msgspec.json.decode(await request.body(), type=WechatFault))
            except msgspec.MsgspecError as error:
                return _json({"problem": str(error)}, 422)
        return _json({"faults": self._faults.planned})

    async def _tokens(self, request: Request) -> Response:
        """Make every token bad: `expire` (42001; the next request gets a new one) or `revoke` (40001 until forced)."""
        acts = {"expire": self._platform.tokens.expire, "revoke": self._platform.tokens.revoke}
        act = acts.get(request.path_params["act"])
        if act is None:
            return _json({"problem": f"one of: {', '.join(acts)}"}, 404)
        act()
        return _json({})

    def _templates(self) -> dict[str, tuple[str, dict[str, str]]]:
        return {template.id: (template.title, dict(template.labels())) for template in self._platform.account.templates}


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
