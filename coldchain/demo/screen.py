"""How the demo's terminal looks: three tables, rewritten in place."""

from collections.abc import Mapping

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from coldchain.demo.watch import View, shown
from core.runtime.instant import HOUR, MINUTE, Instant


def render(view: View, now: Instant, title: str, texts: Mapping[str, Mapping[str, str]]) -> Panel:
    """Return the whole screen."""
    return Panel(Group(_zones(view, now, texts), _alarms(view, texts), _told(view, texts)), title=title)


def _zones(view: View, now: Instant, texts: Mapping[str, Mapping[str, str]]) -> Table:
    head = texts["head"]
    table = Table(title=head["zones"], title_justify="left", expand=True, show_edge=False)
    for name in ("unit", "zone", "probe"):
        table.add_column(head[name])
    table.add_column(head["temperature"], justify="right")
    table.add_column(head["age"], justify="right")
    for zone in view.zones:
        age = "–" if zone.at is None else span(now - zone.at)
        style = "bold red" if zone.abnormal else "green"
        table.add_row(zone.unit, zone.zone, zone.probe, Text(shown(zone.value), style=style), age)
    return table


def _alarms(view: View, texts: Mapping[str, Mapping[str, str]]) -> Table:
    head, state = texts["head"], texts["state"]
    table = Table(title=head["alarms"], title_justify="left", expand=True, show_edge=False)
    for name in ("zone", "rule", "out", "level", "state"):
        table.add_column(head[name])
    for alarm in view.alarms:
        style = "bold red" if alarm.state == "open" else "yellow"
        words = f"{state[alarm.state]}, {state[alarm.handling]}"
        table.add_row(alarm.zone, alarm.rule, span(alarm.out), str(alarm.level or "–"), Text(words, style=style))
    if not view.alarms:
        table.add_row(head["none"])
    return table


def _told(view: View, texts: Mapping[str, Mapping[str, str]]) -> Table:
    head = texts["head"]
    table = Table(title=head["told"], title_justify="left", expand=True, show_edge=False)
    table.add_column(head["person"])
    table.add_column(head["text"], overflow="fold")
    for message in view.told:
        table.add_row(message.person, f"{message.text}\n[blue]{message.link}[/blue]" if message.link else message.text)
    if not view.told:
        table.add_row(head["none"])
    return table


def span(milliseconds: int) -> str:
    """Write a span of time as a person says it: 45 s, 12 min, 3 h 05."""
    if milliseconds < MINUTE:
        return f"{max(0, milliseconds) // 1000} s"
    if milliseconds < HOUR:
        return f"{milliseconds // MINUTE} min"
    return f"{milliseconds // HOUR} h {milliseconds % HOUR // MINUTE:02}"
