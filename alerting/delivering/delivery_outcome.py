"""Results of deliveries: outbox rows, every try (AL-06), unreachable people, copies on other channels.

Only the holder of a row's lease changes it. A worker that outlived its lease records its try, nothing else.
"""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from alerting.delivering.channels.port import Channel, MessageRefused, NotSent, Receipt, RetryLater
from alerting.delivering.outbox_lease import ClaimedMessage
from core.alarms.message_text import on_channel
from core.alarms.outbox import CHANNEL
from core.alarms.states import AttemptOutcome, MessageState
from core.alarms.tables import DeliveryAttempt, OutboxMessage
from core.db.insert import insert_missing
from core.runtime.clock import real_now
from core.runtime.instant import SECOND, Instant
from core.runtime.logs import logger
from core.units.tables import Person

log = logger(__name__)

LONGEST_BACK_OFF_S = 60.0
LONGEST_HELD_S = 1800.0
SECOND_TRY_S = 20.0
"""Seconds until the second try after a doubtful refusal."""
TRIES_ALONE = 3
"""Failed tries after which another channel is asked too."""


class NotTried(msgspec.Struct, frozen=True):
    """Result of a message that was not tried: it is due again after so many seconds."""

    seconds: float
    elsewhere: bool = False
    """Whether another channel may take it meanwhile."""


class Superseded(msgspec.Struct, frozen=True):
    """Result of a message that was not tried because it is no longer true."""


DeliveryOutcome = Receipt | RetryLater | MessageRefused | NotTried | Superseded
Done = tuple[ClaimedMessage, DeliveryOutcome]


def write_down(tx: Session, done: Sequence[Done], channels: Mapping[str, Channel], now: Instant) -> None:
    """Record results; `channels` stand in the order of falling back, `now` is the system's clock."""
    if not done:
        return
    held_ids = _still_held(tx, [row for row, _ in done])
    done = [(row, _reconsidered(tx, row, outcome)) for row, outcome in done]
    held_results = [(row, outcome) for row, outcome in done if row.id in held_ids]
    if held_results:
        tx.execute(
            update(OutboxMessage), [{"id": row.id, **_new_values(row, outcome, now)} for row, outcome in held_results]
        )
    attempts = [
        attempt for row, outcome in done if (attempt := _attempt(row, outcome, now, late=row.id not in held_ids))
    ]
    if attempts:
        tx.execute(insert(DeliveryAttempt), attempts)
    # In order of persons, so that two workers can't deadlock on each other's rows.
    for row, outcome in sorted(held_results, key=lambda result: result[0].person):
        _mark_person(tx, row, outcome, now)
        elsewhere = _may_go_elsewhere(row, outcome) and _hand_to_next_channel(tx, row, channels, now)
        if isinstance(outcome, NotSent):
            lost = isinstance(outcome, MessageRefused) and not elsewhere
            log_it = log.error if outcome.ops or lost else log.warning
            log_it("message not sent", outbox=row.id, channel=row.channel, code=outcome.code, elsewhere=elsewhere)


def _reconsidered(tx: Session, row: ClaimedMessage, outcome: DeliveryOutcome) -> DeliveryOutcome:
    """Return a second try instead of a doubtful refusal of a reachable person, else `outcome`.

    WeChat has called openids invalid that it knew before and after. Without the second try level 1 would get the alarm
    half an hour later.
    """
    if not (isinstance(outcome, MessageRefused) and outcome.doubtful) or row.unreachable:
        return outcome
    earlier_refusal = (
        select(DeliveryAttempt.id)
        .where(DeliveryAttempt.outbox_id == row.id, DeliveryAttempt.code == outcome.code)
        .limit(1)
    )
    if tx.scalar(earlier_refusal) is not None:
        return outcome
    return RetryLater(outcome.code, outcome.detail, after=SECOND_TRY_S)


def _still_held(tx: Session, rows: Sequence[ClaimedMessage]) -> set[int]:
    """Return the ids of rows whose lease is still ours, and lock them until the end of the transaction."""
    queued = select(OutboxMessage.id, OutboxMessage.lease).where(
        OutboxMessage.id.in_([row.id for row in rows]), OutboxMessage.state == MessageState.QUEUED
    )
    leases = dict(tx.execute(queued.with_for_update()).all())
    held = {row.id for row in rows if leases.get(row.id) == row.lease}
    for row in rows:
        if row.id not in held:
            log.warning("lease ended before its message came back", outbox=row.id)
    return held


def _new_values(row: ClaimedMessage, outcome: DeliveryOutcome, now: Instant) -> dict[str, object]:
    """Return a row's new values. Only the holder of its lease changes them, so they are known here."""
    tries = row.as_sibling.attempts
    values: dict[str, object] = {
        "state": MessageState.QUEUED,
        "sent_at": None,
        "receipt": None,
        "next_at": row.lease_until,
        "attempts": tries,
        "lease": None,
        "lease_until": None,
    }
    match outcome:
        case Receipt():
            return values | {"state": MessageState.SENT, "sent_at": now, "receipt": outcome.number[:64]}
        case MessageRefused():
            return values | {"state": MessageState.FAILED}
        case Superseded():
            return values | {"state": MessageState.SUPERSEDED, "attempts": tries - 1}
        case NotTried():
            return values | {"next_at": _after(outcome.seconds), "attempts": tries - 1}
        case RetryLater(held=True):
            back_off = min(LONGEST_HELD_S, (outcome.after or LONGEST_BACK_OFF_S) * 2.0 ** (tries - 1))
            return values | {"next_at": _after(back_off)}
        case RetryLater():
            back_off = min(LONGEST_BACK_OFF_S, 2.0 ** (tries - 1))
            return values | {"next_at": _after(max(back_off, outcome.after or 0.0))}


def _attempt(row: ClaimedMessage, outcome: DeliveryOutcome, now: Instant, *, late: bool) -> dict[str, object] | None:
    match outcome:
        case Receipt():
            result, code, detail = AttemptOutcome.SENT, "", ""
        case MessageRefused():
            result, code, detail = AttemptOutcome.REFUSED, outcome.code, outcome.detail
        case RetryLater():
            result, code, detail = AttemptOutcome.RETRY, outcome.code, outcome.detail
        case _:
            return None
    description = " ".join(filter(None, ("after the lease had ended" if late else "", detail)))
    return {"outbox_id": row.id, "at": now, "outcome": result, "code": code[:20], "detail": description[:300]}


def _mark_person(tx: Session, row: ClaimedMessage, outcome: DeliveryOutcome, now: Instant) -> None:
    """Record whether WeChat reaches a person; results of other channels say nothing about that."""
    if row.channel != CHANNEL:
        return
    if isinstance(outcome, Receipt) and row.unreachable:
        tx.execute(update(Person).where(Person.id == row.person).values(unreachable_since=None))
    if isinstance(outcome, MessageRefused) and outcome.unreachable:
        reachable = update(Person).where(Person.id == row.person, Person.unreachable_since.is_(None))
        tx.execute(reachable.values(unreachable_since=now))


def _may_go_elsewhere(row: ClaimedMessage, outcome: DeliveryOutcome) -> bool:
    match outcome:
        case MessageRefused():
            return True
        case RetryLater():
            return outcome.channel_wide or outcome.held or row.as_sibling.attempts >= TRIES_ALONE
        case NotTried():
            return outcome.elsewhere
        case _:
            return False


def _hand_to_next_channel(tx: Session, row: ClaimedMessage, channels: Mapping[str, Channel], now: Instant) -> bool:
    """Queue the message on the next channel that can carry it; an existing copy counts too."""
    names = list(channels)
    for name in names[names.index(row.channel) + 1 :]:
        address_and_body = channels[name].take_over(row.message, row.recipient)
        if address_and_body is not None:
            address, body = address_and_body
            copy = {
                "key": on_channel(row.message.key, name),
                "alarm_id": row.alarm,
                "cycle": row.cycle,
                "tier": row.as_sibling.tier,
                "kind": row.message.kind,
                "person_id": row.person,
                "channel": name,
                "address": address,
                "body": body,
                "created_at": now,
                "next_at": real_now(),
            }
            insert_missing(tx, OutboxMessage, [copy])
            return True
    return False


def _after(seconds: float) -> Instant:
    return Instant(real_now() + int(seconds * SECOND))
