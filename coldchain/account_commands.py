"""Accounts of people and tokens of machines, as an operator creates and ends them on the command line.

Each use case returns the exit code and the lines to print. Refusals are in the operator's language.
"""

from datetime import date, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from coldchain.commands.texts import say
from coldchain.installation import open_records
from config.catalogue import terminal_language
from config.localized_message import LocalizedMessage
from config.settings import Settings
from core.access.account_lists import accounts_with_grants
from core.access.accounts import account_named, create_account, set_password
from core.access.passwords import hash_password, used_passwords
from core.access.tokens import issue_token, revoke_token, token_named, tokens_with_units
from core.errors import DomainError, Invalid
from core.runtime.clock import clock_from
from core.runtime.instant import Instant, day_bounds, local_day
from core.units.account_states import AccountState
from core.units.actor import OPERATOR
from core.units.queries import unit_with_code
from core.units.rights import Role
from core.units.tables import Account, ApiToken, Unit

NEVER = "never"
CommandResult = tuple[int, list[str]]


class CommandRefused(DomainError):
    """Refusal of an operator's request; its text is in the operator's language."""


def why_not_add(settings: Settings, username: str, *, unit_code: str, role: str) -> str:
    """Return why such an account can't be created, or an empty string.

    The password plays no part, so the command can refuse before it asks for one.
    """
    try:
        _role(role)
        with open_records(settings) as records, records.read() as tx:
            _place_for(tx, username, unit_code)
    except DomainError as error:
        return _in_words(error)
    return ""


def add_user(settings: Settings, username: str, password: str, *, unit_code: str, role: str) -> CommandResult:
    """Create an account with a role on a unit and all units below it."""
    try:
        granted_role, hashed = _role(role), hash_password(username, password)
        with open_records(settings) as records, records.write() as tx:
            unit = _place_for(tx, username, unit_code)
            now = clock_from(settings.virtual_clock).now()
            create_account(tx, OPERATOR, username=username, password_hash=hashed, unit=unit, role=granted_role, now=now)
            name = unit.name
    except DomainError as error:
        return 1, [_in_words(error)]
    return 0, [say("access.added", name=username, role=role, unit=name)]


def list_users(settings: Settings) -> CommandResult:
    """List the accounts with their roles and units."""
    now = clock_from(settings.virtual_clock).now()
    with open_records(settings) as records, records.read() as tx:
        lines = [_account_line(account, role, unit) for account, role, unit in accounts_with_grants(tx, now)]
    return 0, lines or [say("access.nobody")]


def replace_password(settings: Settings, username: str, password: str) -> CommandResult:
    """Set another password for an account, unlock it if it was reported as misused, and end its sessions."""
    try:
        with open_records(settings) as records:
            with records.read() as tx:
                used = used_passwords(tx, _account(tx, username).id)
            hashed = hash_password(username, password, used=used)
            with records.write() as tx:
                now = clock_from(settings.virtual_clock).now()
                account = _account(tx, username)
                if account.state is AccountState.CLOSED:
                    raise CommandRefused(say("access.closed_account", name=username))
                set_password(tx, OPERATOR, account, hashed, is_initial=False, now=now)
    except DomainError as error:
        return 1, [_in_words(error)]
    return 0, [say("access.password_set", name=username)]


def issue(settings: Settings, name: str, *, unit_code: str, role: str, expires: str) -> CommandResult:
    """Create a token. Its text is the only line returned and can't be shown again."""
    zone, now = ZoneInfo(settings.timezone), clock_from(settings.virtual_clock).now()
    try:
        granted_role, ends = _role(role), end_of(expires, now, zone)
        with open_records(settings) as records, records.write() as tx:
            unit = _unit(tx, unit_code)
            if token_named(tx, name) is not None:
                raise CommandRefused(say("access.token_taken", name=name))
            text = issue_token(tx, OPERATOR, name=name, unit=unit, role=granted_role, expires_at=ends, now=now)
    except DomainError as error:
        return 1, [_in_words(error)]
    return 0, [text]


def list_tokens(settings: Settings) -> CommandResult:
    """List the tokens with their roles, units and ends."""
    zone, now = ZoneInfo(settings.timezone), clock_from(settings.virtual_clock).now()
    with open_records(settings) as records, records.read() as tx:
        lines = [_token_line(token, unit, now, zone) for token, unit in tokens_with_units(tx)]
    return 0, lines or [say("access.no_tokens")]


def revoke(settings: Settings, name: str) -> CommandResult:
    """End a token at once. An ended token stays listed, since the audit names it."""
    now = clock_from(settings.virtual_clock).now()
    with open_records(settings) as records, records.write() as tx:
        token = token_named(tx, name)
        if token is None:
            return 1, [say("access.no_token", name=name)]
        if token.expires_at is not None and token.expires_at <= now:
            return 0, [say("access.ended_already", name=name)]
        revoke_token(tx, OPERATOR, token, now=now)
    return 0, [say("access.revoked", name=name)]


def end_of(expires: str, now: Instant, zone: ZoneInfo) -> Instant | None:
    """Return the end of a token: of a day (2027-06-30), after days (365d), or None for `never`.

    Raises: CommandRefused when `expires` is neither, or lies in the past.
    """
    if expires == NEVER:
        return None
    today = local_day(now, zone)
    try:
        last = today + timedelta(days=int(expires[:-1])) if expires.endswith("d") else date.fromisoformat(expires)
        ends = day_bounds(last, zone)[1]
    except (ValueError, OverflowError):
        raise CommandRefused(say("access.expires", expires=expires)) from None
    if last < today:
        raise CommandRefused(say("access.past", expires=expires))
    return ends


def _place_for(tx: Session, username: str, code: str) -> Unit:
    """Return the unit for a new account, once its name is known to be free."""
    unit = _unit(tx, code)
    if account_named(tx, username) is not None:
        raise CommandRefused(say("access.taken", name=username))
    return unit


def _unit(tx: Session, code: str) -> Unit:
    unit = unit_with_code(tx, code)
    if unit is None:
        raise CommandRefused(say("access.no_unit", code=code))
    return unit


def _account(tx: Session, username: str) -> Account:
    account = account_named(tx, username)
    if account is None:
        raise CommandRefused(say("access.no_account", name=username))
    return account


def _token_line(token: ApiToken, unit: str, now: Instant, zone: ZoneInfo) -> str:
    if token.expires_at is None:
        until = say("access.never")
    else:
        ended = token.expires_at <= now
        day = local_day(Instant(token.expires_at - (0 if ended else 1)), zone)
        until = say("access.ended" if ended else "access.until", day=day.isoformat())
    return say("access.token_line", name=token.name, role=token.role, unit=unit, until=until)


def _account_line(account: Account, role: str | None, unit: str | None) -> str:
    granted = say("access.granted", role=role, unit=unit) if role else say("access.nothing_granted")
    state = "" if account.state is AccountState.OPEN else say(f"access.{account.state.value}")
    return say("access.line", name=account.username, granted=granted) + state


def _role(role: str) -> Role:
    if role not in list(Role):
        raise CommandRefused(say("access.role", role=repr(role), roles=", ".join(Role)))
    return Role(role)


def _in_words(error: DomainError) -> str:
    """Return the text of an error that the domain raised."""
    if isinstance(error, Invalid) and error.field == "role":
        return say("access.not_there", role=error.value)
    if isinstance(error, Invalid):
        problem = (
            error.message.text(terminal_language()) if isinstance(error.message, LocalizedMessage) else error.message
        )
        return say("access.invalid", field=error.field, value=repr(error.value), problem=problem)
    return str(error)
