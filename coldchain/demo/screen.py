"""Screen of the demo's terminal: sign-in, messages, alarms and zones, always within the terminal's height.

What must never be off the screen comes first: the sign-in, and the newest message with its link. Zones give way.
"""

from collections.abc import Mapping, Sequence

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from coldchain.demo.watcher import AlarmLine, ReceivedLine, View, ZoneLine, shown
from core.alarms.states import AlarmState
from core.runtime.instant import HOUR, MINUTE, Instant

LINES_A_MESSAGE = 2
_HEADS = 3
"""Each of the three tables has a line above its rows."""


class Room(msgspec.Struct, frozen=True):
    """Number of messages, alarms and zones that have room."""

    messages: int
    alarms: int
    zones: int


def render(
    view: View, now: Instant, greeting: Sequence[str], texts: Mapping[str, Mapping[str, str]], *, rows: int
) -> Group:
    """Return the whole screen, of `rows` lines at most."""
    room = share(rows - len(greeting), messages=len(view.messages), alarms=len(view.alarms), zones=len(view.zones))
    lines = [Text(line, style="bold", no_wrap=True, overflow="ellipsis") for line in greeting]
    zones = sorted(view.zones, key=lambda zone: not zone.abnormal) if room.zones < len(view.zones) else view.zones
    alarms = sorted(view.alarms, key=lambda alarm: alarm.state != AlarmState.OPEN)
    return Group(
        *lines,
        _messages(view.messages[::-1], room.messages, texts),
        _alarms(alarms, room.alarms, texts),
        _zones(zones, room.zones, now, texts),
    )


def share(rows: int, *, messages: int, alarms: int, zones: int) -> Room:
    """Divide the lines of a screen: the newest message and alarms first, then zones, then the rest."""
    left = max(rows - _HEADS, 0)
    counts = {"messages": 0, "alarms": 0, "zones": 0}
    requested = {"messages": max(messages, 1), "alarms": max(alarms, 1), "zones": zones}
    cost = {"messages": LINES_A_MESSAGE, "alarms": 1, "zones": 1}
    for name, most in (
        ("messages", 1),
        ("alarms", 3),
        ("zones", zones),
        ("messages", 2),
        ("alarms", alarms),
        ("messages", messages),
    ):
        while counts[name] < min(most, requested[name]) and left >= cost[name]:
            counts[name] += 1
            left -= cost[name]
    return Room(**counts)


def _table(title: str, hidden: int, *columns: str) -> Table:
    more = f" +{hidden}" if hidden > 0 else ""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    for i, name in enumerate(columns):
        table.add_column(f"{title}{more}" if i == 0 else name, no_wrap=True, overflow="ellipsis")
    return table


def _zones(zones: Sequence[ZoneLine], room: int, now: Instant, texts: Mapping[str, Mapping[str, str]]) -> Table:
    head = texts["head"]
    table = _table(head["zones"], len(zones) - room, "", head["zone"], head["probe"], head["temperature"], head["age"])
    for column in table.columns[-2:]:
        column.justify = "right"
    for zone in zones[:room]:
        age = "–" if zone.at is None else span(now - zone.at)
        style = "bold red" if zone.abnormal else "green"
        table.add_row(zone.unit, zone.zone, zone.probe, Text(shown(zone.value), style=style), age)
    return table


def _alarms(alarms: Sequence[AlarmLine], room: int, texts: Mapping[str, Mapping[str, str]]) -> Table:
    head, state = texts["head"], texts["state"]
    table = _table(head["alarms"], len(alarms) - room, "", head["rule"], head["out"], head["level"], head["state"])
    table.columns[0].ratio, table.columns[-1].ratio = 2, 3
    for alarm in alarms[:room]:
        style = "bold red" if alarm.state == AlarmState.OPEN else "yellow"
        words = f"{state[alarm.state]}, {state[alarm.handling]}"
        table.add_row(alarm.zone, alarm.rule, span(alarm.out), str(alarm.level or "–"), Text(words, style=style))
    if room and not alarms:
        table.add_row(head["none"])
    return table


def _messages(messages: Sequence[ReceivedLine], room: int, texts: Mapping[str, Mapping[str, str]]) -> Table:
    head = texts["head"]
    table = _table(head["told"], 0, "")
    for message in messages[:room]:
        table.add_row(f"{message.person}  {message.text}")
        table.add_row(Text(f"→ {message.short}", style=f"blue link {message.link}") if message.link else "")
    if room and not messages:
        table.add_row(head["none"])
    return table


def span(milliseconds: int) -> str:
    """Write a span of time as a person says it: 45 s, 12 min, 3 h 05."""
    if milliseconds < MINUTE:
        return f"{max(0, milliseconds) // 1000} s"
    if milliseconds < HOUR:
        return f"{milliseconds // MINUTE} min"
    return f"{milliseconds // HOUR} h {milliseconds % HOUR // MINUTE:02}"
