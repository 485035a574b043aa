"""Outbox writer: composes messages and inserts one row per person, in the transaction of the event they are about.

The same key is never queued twice, so work that is repeated after a crash queues nothing new.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec
from sqlalchemy.orm import Session

from core.alarms.links import AlarmLink, sign, url
from core.alarms.message_text import Facts, compose, outbox_key
from core.alarms.states import NotificationKind
from core.alarms.tables import OutboxMessage
from core.db.insert import insert_missing
from core.ids import AlarmId, PersonId
from core.runtime.clock import real_now
from core.runtime.instant import Instant, Milliseconds

CHANNEL = "wechat"


class MessageDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A message to one person, not composed yet."""

    kind: NotificationKind
    facts: Facts
    person: PersonId
    openid: str | None
    tier: int
    about: AlarmId | str
    """The alarm, or another subject, such as `gw10001` for a digest."""
    cycle: int = 1
    repeat: int = 0


class OutboxWriter:
    """Writes messages into the outbox, all for WeChat first; delivery falls back to another channel if that fails."""

    def __init__(
        self, *, public_url: str, link_keys: Mapping[str, str], link_life: Milliseconds, channels: Collection[str]
    ) -> None:
        """`link_life` is the validity of the link in a message; `channels` are the configured channels."""
        self.channels = channels
        self._public_url = public_url
        self._link_keys = link_keys
        self._link_life = link_life

    def queue(self, tx: Session, drafts: Iterable[MessageDraft], now: Instant) -> list[MessageDraft]:
        """Insert messages that aren't queued yet; return those to people who aren't bound to WeChat (AL-05).

        The configured channels don't matter here: without any, the rows stay queued (AL-15).
        """
        rows = []
        unbound = []
        for draft in drafts:
            if not draft.openid:
                unbound.append(draft)
                continue
            key = outbox_key(draft.about, draft.cycle, draft.tier, draft.repeat, draft.person, CHANNEL, draft.kind)
            link = self._link(draft, now)
            body = compose(draft.kind, draft.facts, key=key, to=draft.openid, link=link, template_id="")
            rows.append(
                {
                    "key": key,
                    "alarm_id": None if isinstance(draft.about, str) else draft.about,
                    "cycle": draft.cycle,
                    "tier": draft.tier,
                    "kind": draft.kind,
                    "person_id": draft.person,
                    "channel": CHANNEL,
                    "address": draft.openid,
                    "body": body,
                    "created_at": now,
                    "next_at": real_now(),
                }
            )
        insert_missing(tx, OutboxMessage, rows)
        return unbound

    def _link(self, draft: MessageDraft, now: Instant) -> str:
        if isinstance(draft.about, str):
            return ""
        link = AlarmLink(draft.about, draft.cycle, draft.person, Instant(now + self._link_life))
        return url(self._public_url, sign(link, self._link_keys))
