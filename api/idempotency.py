"""Idempotency keys (`Idempotency-Key`): a creating request that is sent twice creates once.

The second request gets the first one's answer.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import WriteSession
from core.db import idempotency

S = TypeVar("S", bound=BaseModel)
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=8,
        max_length=100,
        pattern="^[!-~]+$",
        description="your own number of this request; sent again within a day it is answered, not done again",
    ),
]


class IdempotentCreate:
    """Runner of a creating request's work, unless it was done under the same key."""

    def __init__(self, remember: Callable[[Callable[[], str]], str] | None) -> None:
        self._remember = remember

    def __call__(self, shape: type[S], work: Callable[[], S]) -> S:
        """Return the result of `work`, or its first result."""
        if self._remember is None:
            return work()
        return shape.model_validate_json(self._remember(lambda: work().model_dump_json()))


async def _body(request: Request) -> bytes:
    return await request.body()


def _once(
    request: Request,
    body: Annotated[bytes, Depends(_body)],
    tx: WriteSession,
    context: AppContextDep,
    principal: CurrentPrincipal,
    key: IdempotencyKey = None,
) -> IdempotentCreate:
    if key is None:
        return IdempotentCreate(None)
    fingerprint = f"{request.method} {request.url.path}\n".encode() + body
    return IdempotentCreate(
        lambda work: idempotency.answer_once(
            tx, principal.actor.name, key, fingerprint, now=context.clock.now(), work=work
        )
    )


IdempotentCreateDep = Annotated[IdempotentCreate, Depends(_once)]
"""A route takes this beside `WriteSession`; both share the transaction."""
