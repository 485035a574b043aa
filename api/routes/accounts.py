"""Accounts: the user list of units, opening, closing and resetting accounts, their histories and incidents.

Who manages whose accounts follows from the unit and the account's type. An account that may be seen and not managed is
refused with 403; one that may not be seen is 404. Opening an account grants nothing.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import Field

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal, SignInConcurrencyLimited
from api.csv_export import csv_answer
from api.db_session import ReadSession, WriteSession
from api.idempotency import IdempotentCreateDep
from api.schemas import (
    LARGEST_ID,
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
from core.access import account_lists
from core.access import accounts as use_cases
from core.access.account_history import history_of
from core.access.account_lists import ListedAccount, ListedAdministrator
from core.access.accounts import NewAccount
from core.access.management import visible_account
from core.access.misuse import incidents, is_late
from core.access.passwords import PasswordHash, initial_password
from core.access.tables import AccountIncident
from core.db.crypto import FieldCipher
from core.ids import AccountId, PersonId, UnitId
from core.units.account_states import AccountEventKind, AccountState
from core.units.identities import Identity, IdentityType
from core.units.people import opened_phone
from core.units.queries import visible_unit
from core.units.rights import Role
from core.units.tables import Account, Unit

router = APIRouter(prefix="/accounts", tags=["accounts"])
AccountNumber = Annotated[AccountId, Path(ge=1, le=LARGEST_ID)]
Below = Annotated[bool, Query(description="also of all units below")]


class OpenAccount(Schema):
    """An account for one named person of a unit. `account_type` says what it is for, and so who manages it."""

    username: Annotated[str, Field(min_length=1, max_length=50, examples=["wangfang"])]
    account_type: Role = Role.USER
    unit: UnitReference
    name: Annotated[str, Field(max_length=50, examples=["Wang Fang"], description="as the identity document shows it")]
    identity_type: IdentityType = IdentityType.RESIDENT
    identity_number: Annotated[str, Field(max_length=40, examples=["11010519491231002X"])]
    phone: Annotated[str, Field(max_length=40, examples=["13812345678"])]


class AccountOut(Schema):
    """An account. `duplicate_identity`: somebody else has an identity document with the same number."""

    id: AccountId
    username: str
    account_type: Role
    state: AccountState
    unit: UnitId | None
    unit_name: str | None
    person: PersonId | None
    name: str | None
    duplicate_identity: bool
    must_change_password: bool


class AccountWithPassword(AccountOut):
    """An account and its initial password, shown only now; null when a request is repeated under the same key."""

    initial_password: str | None = None


class AccountEventOut(Schema):
    """An event in the history of an account."""

    at: Moment
    kind: AccountEventKind
    actor: str
    unit: UnitId | None
    role: Role | None


class AccountWithHistory(AccountOut):
    """An account with all that happened to it, oldest first."""

    history: Sequence[AccountEventOut]


class AdministratorOut(Schema):
    """A business administrator of a province."""

    account: AccountId
    username: str
    name: str | None
    phone: str | None
    unit: UnitId
    unit_name: str
    unit_code: str | None
    since: Moment


class IncidentOut(Schema):
    """A report that an account is misused. `late`: not resolved within 2 h."""

    id: int
    account: AccountId
    username: str
    unit: UnitId
    unit_name: str
    opened_at: Moment
    due_at: Moment
    resolved_at: Moment | None
    resolved_by: str | None
    late: bool


def _initial(principal: CurrentPrincipal) -> tuple[str, PasswordHash]:
    """Return an initial password and its hash. It is made before the transaction begins: hashing takes a while."""
    del principal  # nobody else gets so far
    return initial_password()


InitialPassword = Annotated[tuple[str, PasswordHash], Depends(_initial)]
"""A route takes this before its `WriteSession`."""


@router.get("", responses={404: {}})
def accounts(
    tx: ReadSession,
    principal: CurrentPrincipal,
    unit: UnitNumber | None = None,
    *,
    below: Below = False,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[AccountOut]:
    """List the accounts of the principal's units, or of one unit, closed ones too."""
    position = place_of(cursor, 1)
    listed = account_lists.accounts(
        tx, principal.actor, unit=unit, below=below, after=position[0] if position else 0, limit=limit
    )
    items = [AccountOut(**_account(each)) for each in listed]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@router.post("", status_code=201, dependencies=[SignInConcurrencyLimited], responses={404: {}, 409: {}})
def open_account(
    body: OpenAccount,
    principal: CurrentPrincipal,
    initial: InitialPassword,
    tx: WriteSession,
    context: AppContextDep,
    once: IdempotentCreateDep,
) -> AccountWithPassword:
    """Open an account for a named person. It can sign in, and do nothing until something is granted to it."""
    password, password_hash = initial
    shown: list[str] = []

    def work() -> AccountWithPassword:
        new = NewAccount(
            username=body.username,
            account_type=body.account_type,
            unit=visible_unit(tx, principal.actor, body.unit),
            name=body.name,
            identity=Identity(body.identity_type, body.identity_number),
            phone=body.phone,
        )
        account = use_cases.open_account(
            tx, principal.actor, new, password_hash, FieldCipher(context.secrets), now=context.clock.now()
        )
        shown.append(password)
        return AccountWithPassword(**_account(account_lists.listed_account(tx, account)))

    answer = once(AccountWithPassword, work)  # which keeps the answer, and so must not see the password
    return answer.model_copy(update={"initial_password": shown[0] if shown else None})


@router.get("/province-administrators")
def province_administrators(
    tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep
) -> list[AdministratorOut]:
    """List the business administrators of the principal's provinces, for filing upward."""
    listed = account_lists.province_administrators(tx, principal.actor, context.clock.now())
    return [_administrator(each, FieldCipher(context.secrets)) for each in listed]


@router.get("/province-administrators.csv", response_class=Response)
def province_administrators_csv(tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep) -> Response:
    """Send the same list as a CSV file."""
    listed = account_lists.province_administrators(tx, principal.actor, context.clock.now())
    rows = [_administrator(each, FieldCipher(context.secrets)) for each in listed]
    header = ("unit_code", "unit_name", "username", "name", "phone")
    cells = [(row.unit_code, row.unit_name, row.username, row.name, row.phone) for row in rows]
    return csv_answer("province-administrators.csv", header, [cells])


@router.get("/incidents")
def account_incidents(
    tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep, cursor: Cursor = None, limit: PageLimit = 100
) -> Page[IncidentOut]:
    """List the reports of misuse, resolved ones too."""
    position, now = place_of(cursor, 1), context.clock.now()
    found = incidents(tx, principal.actor, after=position[0] if position else 0, limit=limit)
    items = [_incident(*each, late=is_late(each[0], now)) for each in found]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@router.get("/{account}")
def account(account: AccountNumber, tx: ReadSession, principal: CurrentPrincipal) -> AccountWithHistory:
    """Return an account with its history."""
    row = visible_account(tx, principal.actor, account)
    events = [
        AccountEventOut(at=event.at, kind=event.kind, actor=event.actor, unit=event.unit_id, role=event.role)
        for event in history_of(tx, account)
    ]
    return AccountWithHistory(**_account(account_lists.listed_account(tx, row)), history=events)


@router.post("/{account}/close", responses={409: {}})
def close_account(
    account: AccountNumber, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep
) -> AccountOut:
    """Close an account and end its sessions. Its row and its history stay, and its user name is never given again."""
    row = use_cases.close_account(tx, principal.actor, account, now=context.clock.now())
    return AccountOut(**_account(account_lists.listed_account(tx, row)))


@router.post("/{account}/reopen", dependencies=[SignInConcurrencyLimited], responses={409: {}})
def reopen_account(
    account: AccountNumber,
    principal: CurrentPrincipal,
    initial: InitialPassword,
    tx: WriteSession,
    context: AppContextDep,
) -> AccountWithPassword:
    """Open a closed account again, with another initial password."""
    row = use_cases.reopen_account(tx, principal.actor, account, initial[1], now=context.clock.now())
    return AccountWithPassword(**_account(account_lists.listed_account(tx, row)), initial_password=initial[0])


@router.post("/{account}/reset", dependencies=[SignInConcurrencyLimited], responses={409: {}})
def reset_account(
    account: AccountNumber,
    principal: CurrentPrincipal,
    initial: InitialPassword,
    tx: WriteSession,
    context: AppContextDep,
) -> AccountWithPassword:
    """Give an account another initial password. One that was reported as misused is unlocked by it."""
    row = use_cases.reset_account(tx, principal.actor, account, initial[1], now=context.clock.now())
    return AccountWithPassword(**_account(account_lists.listed_account(tx, row)), initial_password=initial[0])


def _account(listed: ListedAccount) -> dict[str, Any]:
    row, unit, person = listed.account, listed.unit, listed.person
    return {
        "id": row.id,
        "username": row.username,
        "account_type": row.account_type,
        "state": row.state,
        "unit": None if unit is None else unit.id,
        "unit_name": None if unit is None else unit.name,
        "person": None if person is None else person.id,
        "name": None if person is None else person.name,
        "duplicate_identity": listed.has_duplicate_identity,
        "must_change_password": row.password_set_at is None,
    }


def _administrator(listed: ListedAdministrator, cipher: FieldCipher) -> AdministratorOut:
    person, unit = listed.person, listed.unit
    return AdministratorOut(
        account=listed.account.id,
        username=listed.account.username,
        name=None if person is None else person.name,
        phone=None if person is None else opened_phone(person, cipher),
        unit=unit.id,
        unit_name=unit.name,
        unit_code=unit.code,
        since=listed.since,
    )


def _incident(incident: AccountIncident, account: Account, unit: Unit, *, late: bool) -> IncidentOut:
    return IncidentOut(
        id=incident.id,
        account=account.id,
        username=account.username,
        unit=unit.id,
        unit_name=unit.name,
        opened_at=incident.opened_at,
        due_at=incident.due_at,
        resolved_at=incident.resolved_at,
        resolved_by=incident.resolved_by,
        late=late,
    )
