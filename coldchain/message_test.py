"""Test message to one person through every configured channel.

It bypasses the outbox, so it needs no alerting service and waits behind no other message. A person who gets it counts
as reachable; a person whom WeChat refuses is marked unreachable, as for any message.
"""

from collections.abc import Sequence

from sqlalchemy import update

from alerting.delivering.channels.configured import configured_channels
from alerting.delivering.channels.port import (
    Address,
    Channel,
    MessageRefused,
    OutgoingMessage,
    Receipt,
    Recipient,
    RetryLater,
)
from coldchain.commands.texts import say
from coldchain.installation import open_records
from config import secrets
from config.settings import Settings
from core.alarms.message_text import OpsFacts, compose, on_channel, outbox_key
from core.alarms.outbox import CHANNEL
from core.alarms.states import NotificationKind
from core.db import audit
from core.db.engine import Records
from core.runtime.clock import clock_from, real_now
from core.runtime.instant import Instant
from core.units.people import people_called
from core.units.tables import Person, Unit

CommandResult = tuple[int, list[str]]


def send_test(settings: Settings, named: str) -> CommandResult:
    """Send a test message to the person with this name or number; return the exit code and the lines to print."""
    kept_secrets = secrets.read(settings.data_dir)
    with open_records(settings) as records:
        now = clock_from(settings.virtual_clock).now()
        with records.read() as tx:
            people = people_called(tx, named, now)
        if len(people) != 1:
            return 1, _choice(people, named)
        person, unit = people[0]
        channels = configured_channels(settings, kept_secrets, records)
        if not channels:
            return 1, [say("message.no_channel")]
        sent, lines = _send(records, channels, person, unit, now)
    return (0 if sent else 1), lines


def _choice(people: Sequence[tuple[Person, Unit]], named: str) -> list[str]:
    if not people:
        return [say("message.nobody", name=named)]
    choices = [say("message.one_of", number=person.id, name=person.name, unit=unit.name) for person, unit in people]
    return [say("message.several", name=named), *choices]


def _send(
    records: Records, channels: dict[str, Channel], person: Person, unit: Unit, now: Instant
) -> tuple[bool, list[str]]:
    """Send the message on each channel in turn, outside any transaction."""
    key = outbox_key(f"test-{real_now()}", 1, 1, 0, person.id, CHANNEL, NotificationKind.OPS)
    facts = OpsFacts(unit=unit.name, timezone=unit.timezone, subject="coldchain", trouble="test", since=now)
    first = OutgoingMessage(
        key,
        NotificationKind.OPS,
        compose(NotificationKind.OPS, facts, key=key, to=person.openid or "", link="", template_id=""),
    )
    lines, outcomes = [], {}
    for name, channel in channels.items():
        outcome = _hand_over(name, channel, first, Recipient(person.openid, person.phone))
        outcomes[name] = outcome.code if isinstance(outcome, RetryLater | MessageRefused) else "sent"
        lines.append(_outcome_text(name, person, outcome))
        if name == CHANNEL:
            _mark(records, person, outcome, now)
    with records.write() as tx:
        audit.record(
            tx, at=now, actor="operator", act="test message sent", subject=f"person:{person.id}", detail=outcomes
        )
    return "sent" in outcomes.values(), lines


def _hand_over(
    name: str, channel: Channel, first: OutgoingMessage, to: Recipient
) -> Receipt | RetryLater | MessageRefused:
    address: Address = to.openid or ""
    message = first
    if name != CHANNEL:
        taken = channel.take_over(first, to)
        if taken is None:
            return MessageRefused("unknown", say("message.not_known_there"))
        address, message = taken[0], OutgoingMessage(on_channel(first.key, name), first.kind, taken[1])
    try:
        return channel.send(message, address)
    except (RetryLater, MessageRefused) as error:
        return error


def _outcome_text(name: str, person: Person, outcome: Receipt | RetryLater | MessageRefused) -> str:
    channel = say(f"channel.{name}")
    match outcome:
        case Receipt():
            return say("message.sent", channel=channel, name=person.name, number=outcome.number)
        case MessageRefused(code="unbound"):
            return say("message.unbound", channel=channel, name=person.name)
        case MessageRefused(unreachable=True):
            return say("message.unreachable", channel=channel, name=person.name, code=str(outcome))
        case MessageRefused():
            return say("message.refused", channel=channel, code=str(outcome))
        case _:
            return say("message.held", channel=channel, code=str(outcome))


def _mark(records: Records, person: Person, outcome: Receipt | RetryLater | MessageRefused, now: Instant) -> None:
    update_person = update(Person).where(Person.id == person.id)
    with records.write() as tx:
        if isinstance(outcome, Receipt):
            tx.execute(update_person.values(unreachable_since=None))
        elif isinstance(outcome, MessageRefused) and outcome.unreachable:
            tx.execute(update_person.where(Person.unreachable_since.is_(None)).values(unreachable_since=now))
