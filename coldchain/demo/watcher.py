"""State of the demo for its terminal: zones with temperatures, alarms, messages received, and recent events.

It reads the records and the simulator's log, and asks no service.
"""

import json
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from importlib import resources

import msgspec

from config.catalogue import terminal_language
from core.alarms.duration import time_out
from core.alarms.message_text import degrees
from core.alarms.overview import events_after, last_event_id, last_readings, unclosed_alarms
from core.alarms.states import AlarmEventKind, AlarmState
from core.db.engine import Records
from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds

KEPT_MESSAGES = 8


class ZoneLine(msgspec.Struct, frozen=True):
    """A probe's zone and what it measured last; `value` is None for a failed reading."""

    unit: str
    zone: str
    probe: str
    value: Centi | None
    at: Instant | None
    abnormal: bool


class AlarmLine(msgspec.Struct, frozen=True):
    """An alarm that is not closed."""

    zone: str
    rule: str
    level: int
    """The highest that has been told; 0 while nobody has."""
    state: str
    handling: str
    out: Milliseconds
    """Time beyond the limit in all, until now while it goes on."""
    peak: Centi | None


class ReceivedLine(msgspec.Struct, frozen=True):
    """A message that a phone received."""

    at: Instant
    person: str
    text: str
    link: str
    short: str = ""
    """Way to the link by the simulator, which opens it as that person; fits in a narrow terminal."""


class NewsLine(msgspec.Struct, frozen=True):
    """One line about an event."""

    at: Instant
    text: str


class View(msgspec.Struct, frozen=True):
    """State at one moment; `happened` is what is new since the last look."""

    zones: Sequence[ZoneLine]
    alarms: Sequence[AlarmLine]
    messages: Sequence[ReceivedLine]
    happened: Sequence[NewsLine]


def texts() -> Mapping[str, Mapping[str, str]]:
    """Return what the demo says, in the terminal's language: Chinese for a Chinese locale, else English."""
    language = terminal_language()
    return tomllib.loads(resources.files("coldchain.demo").joinpath("text", f"{language}.toml").read_text("utf-8"))


class Watcher:
    """Reader of the demo's state. What was there before the first look is shown, but is not news."""

    def __init__(self, records: Records, wechat_url: str) -> None:
        self._records = records
        self._wechat_url = wechat_url
        self._texts = texts()
        with records.read() as tx:
            self._last_event = last_event_id(tx)
        self._last_message = 0
        before, self._last_message = self._read_messages()
        self._messages = before[-KEPT_MESSAGES:]
        self._restarts: Mapping[str, int] = {}
        self._news: list[NewsLine] = []
        self.message_count = 0
        self.opened = 0

    def view(self, now: Instant) -> View:
        """Return what is `now`, and what has happened since the last look."""
        zones, alarms = self._state(now)
        received, self._last_message = self._read_messages()
        self._messages = [*self._messages, *received][-KEPT_MESSAGES:]
        self.message_count += len(received)
        news = [*self._news, *self._events(), *map(self._received, received)]
        self._news = []
        return View(zones, alarms, self._messages, sorted(news, key=lambda happening: happening.at))

    def restarted(self, restarts: Mapping[str, int], now: Instant) -> None:
        """Compare how often each service was started again with the last look."""
        for name, times in restarts.items():
            if times > self._restarts.get(name, 0):
                self._news.append(NewsLine(now, self._texts["happened"]["restarted"].format(name=name)))
        self._restarts = dict(restarts)

    def _state(self, now: Instant) -> tuple[list[ZoneLine], list[AlarmLine]]:
        with self._records.read() as tx:
            alarms = [
                AlarmLine(
                    unclosed.zone,
                    self._texts["rule"].get(unclosed.alarm.rule, unclosed.alarm.rule),
                    unclosed.level,
                    unclosed.alarm.state,
                    unclosed.alarm.handling,
                    time_out(unclosed.alarm, now),
                    unclosed.alarm.peak,
                )
                for unclosed in unclosed_alarms(tx)
            ]
            abnormal = {alarm.zone for alarm in alarms if alarm.state == AlarmState.OPEN}
            zones = [
                ZoneLine(last.unit, last.zone, last.probe, last.value, last.at, last.zone in abnormal)
                for last in last_readings(tx)
            ]
        return zones, alarms

    def _events(self) -> list[NewsLine]:
        with self._records.read() as tx:
            happened = events_after(tx, self._last_event)
        news = []
        for each in happened:
            self._last_event = each.event.id
            self.opened += each.event.kind == AlarmEventKind.OPENED
            pattern = self._texts["happened"].get(each.event.kind)
            if pattern:
                words = {"zone": each.zone, "rule": self._texts["rule"].get(each.rule, each.rule)}
                news.append(NewsLine(each.event.at, pattern.format(person=each.person or "", **words)))
        return news

    def _received(self, message: ReceivedLine) -> NewsLine:
        words = {"person": message.person, "text": message.text, "link": message.link}
        return NewsLine(message.at, self._texts["happened"]["message"].format(**words).rstrip(" →"))

    def _read_messages(self) -> tuple[list[ReceivedLine], int]:
        """Return what phones got since the last look, and the number of the newest message."""
        try:
            with urllib.request.urlopen(  # noqa: S310 (our own simulator)
                f"{self._wechat_url}/sim/log?after={self._last_message}", timeout=2
            ) as answer:
                rows = json.load(answer)["messages"]
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return [], self._last_message
        received = [
            ReceivedLine(
                Instant(row["at"]),
                row["name"],
                " · ".join(field["value"] for field in row["data"].values()),
                row.get("url", ""),
                f"{self._wechat_url}/sim/open/{row['number']}" if row.get("url") else "",
            )
            for row in rows
        ]
        return received, max([self._last_message, *(row["number"] for row in rows)])


def shown(value: Centi | None) -> str:
    """Return a temperature for the terminal, – for a failed or missing one."""
    return "–" if value is None else degrees(value).removesuffix("℃")
