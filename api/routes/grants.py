"""Grants and substitutions: what accounts may do where and until when, and who reviews in place of whom.

Nobody gives more than they hold there, nor for longer. The principal sees grants of accounts that they see, and their
own.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession, WriteSession
from api.idempotency import IdempotentCreateDep
from api.schemas import (
    LARGEST_ID,
    AccountReference,
    Cursor,
    Moment,
    Page,
    PageLimit,
    Schema,
    UnitNumber,
    UnitReference,
    cursor_of,
    place_of,
)
from core.access import grants as use_cases
from core.access import substitutions as lending
from core.access.tables import Substitution
from core.ids import AccountId, UnitId
from core.units.queries import visible_unit
from core.units.rights import Role
from core.units.tables import Account, Grant, Unit

router = APIRouter(prefix="/grants", tags=["grants"])
substitutions_router = APIRouter(prefix="/substitutions", tags=["grants"])
AccountNumber = Annotated[AccountId, Field(ge=1, le=LARGEST_ID)]
GrantNumber = Annotated[int, Path(ge=1, le=LARGEST_ID)]
SubstitutionNumber = Annotated[int, Path(ge=1, le=LARGEST_ID)]


class GiveGrant(Schema):
    """A role for an account on a unit and all units below it, from now on; without `until` for good."""

    account: AccountReference
    unit: UnitReference
    role: Role
    until: Moment | None = None


class GrantOut(Schema):
    """A grant, in force in [since, until)."""

    id: int
    account: AccountId
    username: str
    unit: UnitId
    unit_name: str
    role: Role
    since: Moment
    until: Moment | None


class LendReview(Schema):
    """`substitute` reviews in place of `absent`, an account of the same unit, in [since, until)."""

    absent: AccountReference
    substitute: AccountReference
    since: Moment
    until: Moment


class SubstitutionOut(Schema):
    """Who reviews in place of whom."""

    id: int
    absent: AccountId
    absent_username: str
    substitute: AccountId
    substitute_username: str
    since: Moment
    until: Moment


@router.get("")
def grants(
    tx: ReadSession,
    principal: CurrentPrincipal,
    account: Annotated[AccountNumber | None, Query()] = None,
    unit: UnitNumber | None = None,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[GrantOut]:
    """List grants, past ones too, of all accounts that the principal sees, or of one account or unit."""
    position = place_of(cursor, 1)
    after = position[0] if position else 0
    found = use_cases.grants(tx, principal.actor, account=account, unit=unit, after=after, limit=limit)
    items = [_grant(*each) for each in found]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@router.post("", status_code=201, responses={404: {}, 409: {}})
def give_grant(
    body: GiveGrant, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep, once: IdempotentCreateDep
) -> GrantOut:
    """Grant a role: at most what the principal holds there, and at most for as long."""

    def work() -> GrantOut:
        unit = visible_unit(tx, principal.actor, body.unit)
        grant = use_cases.give_grant(
            tx, principal.actor, body.account, unit, body.role, until=body.until, now=context.clock.now()
        )
        return _grant(*use_cases.with_names(tx, grant))

    return once(GrantOut, work)


@router.delete("/{grant}", responses={409: {}})
def end_grant(grant: GrantNumber, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep) -> GrantOut:
    """End a grant now. Who may give it may end it."""
    ended = use_cases.end_grant(tx, principal.actor, grant, now=context.clock.now())
    return _grant(*use_cases.with_names(tx, ended))


@substitutions_router.get("")
def substitutions(
    tx: ReadSession, principal: CurrentPrincipal, cursor: Cursor = None, limit: PageLimit = 100
) -> Page[SubstitutionOut]:
    """List substitutions, past and coming ones too."""
    position = place_of(cursor, 1)
    found = lending.substitutions(tx, principal.actor, after=position[0] if position else 0, limit=limit)
    items = [_substitution(*each) for each in found]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@substitutions_router.post("", status_code=201, responses={404: {}, 409: {}})
def lend_review(
    body: LendReview, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep, once: IdempotentCreateDep
) -> SubstitutionOut:
    """Let a colleague review in one's place. Nothing else is lent, and it ends with one's own grant."""

    def work() -> SubstitutionOut:
        row = lending.lend_review(
            tx,
            principal.actor,
            absent=body.absent,
            substitute=body.substitute,
            since=body.since,
            until=body.until,
            now=context.clock.now(),
        )
        return _substitution(*lending.with_accounts(tx, row))

    return once(SubstitutionOut, work)


@substitutions_router.delete("/{substitution}", status_code=204, responses={409: {}})
def end_substitution(
    substitution: SubstitutionNumber, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep
) -> None:
    """End a substitution now; one that hasn't begun never does."""
    lending.end_substitution(tx, principal.actor, substitution, now=context.clock.now())


def _grant(grant: Grant, account: Account, unit: Unit) -> GrantOut:
    return GrantOut(
        id=grant.id,
        account=account.id,
        username=account.username,
        unit=unit.id,
        unit_name=unit.name,
        role=grant.role,
        since=grant.since,
        until=grant.until,
    )


def _substitution(row: Substitution, absent: Account, substitute: Account) -> SubstitutionOut:
    return SubstitutionOut(
        id=row.id,
        absent=absent.id,
        absent_username=absent.username,
        substitute=substitute.id,
        substitute_username=substitute.username,
        since=row.since,
        until=row.until,
    )
