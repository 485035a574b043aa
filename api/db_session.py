"""Database sessions of a request, as dependencies: one that reads, one that commits before the answer leaves."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from api.app_context import AppContextDep


def read_session(context: AppContextDep) -> Iterator[Session]:
    """Yield a read-only session that sees one moment."""
    with context.records.read() as tx:
        yield tx


def write_session(context: AppContextDep) -> Iterator[Session]:
    """Yield a transaction that is committed before the answer is sent, and rolled back by any error."""
    with context.records.write() as tx:
        yield tx


ReadSession = Annotated[Session, Depends(read_session, scope="function")]


WriteSession = Annotated[Session, Depends(write_session, scope="function")]
