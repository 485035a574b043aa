"""Command `coldchain status`: one screen with the state of the services, what is wrong, and what to do about it.

It looks from this machine, and takes a few seconds at most however many stores hang. Services on other machines don't
write their status here. The intake log has their claims on shards; log and records have how far readers have come.
"""

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from coldchain.demo.screen import span
from coldchain.line_wrapping import wrap
from config.catalogue import Language, terminal_language
from config.settings import Settings
from config.settings_loader import InvalidSetting
from config.texts import say
from core.alarms.states import MessageState
from core.db.engine import Records, connect, url_for
from core.health import trouble_text
from core.health.concurrent_checks import ConcurrentChecks
from core.health.disk_space import files
from core.health.health_check import Health, HealthCheck, Lag
from core.health.store_checks import LogStatus
from core.intake.factory import is_ready, open_log
from core.intake.port import GatewayFaultKind, IntakeLog, IntakeUnavailable
from core.runtime.clock import Clock, SystemClock, clock_from, real_now
from core.runtime.instant import DAY, Instant
from core.runtime.status import Status
from core.telemetry.factory import open_telemetry
from core.telemetry.port import Telemetry

WITHIN_S = 3.0
ACCESS_S = 1.0
"""A disk that doesn't answer by then is among the troubles."""
_NAMED = 3
"""Gateways in one cell."""
_GIB = 2**30
_MIB = 2**20


def status(settings: Settings, *, as_json: bool, to: TextIO | None = None) -> int:
    """Print the state; return 0 when all is well, else 1.

    Raises: InvalidSetting for a user who may not look into the data folder, to whom nothing would seem to run.
    """
    folder = Path(settings.data_dir)
    checks = ConcurrentChecks({"data folder": lambda: not folder.exists() or os.access(folder, os.R_OK | os.X_OK)})
    if checks.run(ACCESS_S)["data folder"].value is False:
        raise InvalidSetting(say("settings.closed", folder=repr(str(folder))))
    health = check_health(settings)
    if as_json:
        (to or sys.stdout).write(_json(health) + "\n")
    else:
        console = Console(file=to, highlight=False, soft_wrap=False)
        # Paths and addresses longer than a line stay whole, to be copied.
        console.print(screen(health, terminal_language(), console.width), overflow="ignore", crop=False)
    return 1 if health.troubles else 0


def check_health(settings: Settings) -> Health:
    """Return the state of an installation. Nothing is created."""

    @contextmanager
    def records() -> Iterator[Records]:
        _must_exist(settings, "records")
        opened = Records(connect(url_for(settings.records.url, settings.data_dir)))
        try:
            yield opened
        finally:
            opened.close()

    def log() -> closing[IntakeLog]:
        _must_exist(settings, "intake log")
        if not is_ready(settings.intake.url, settings.data_dir):
            msg = f"no such table: {trouble_text.say('screen.no_tables', terminal_language())}"
            raise IntakeUnavailable(msg)
        return closing(open_log(settings.intake.url, settings.data_dir))

    def telemetry() -> closing[Telemetry]:
        return closing(open_telemetry(settings, read_only=True))

    return HealthCheck(settings, _clock(settings), records=records, log=log, telemetry=telemetry).run(WITHIN_S)


def _must_exist(settings: Settings, part: str) -> None:
    file = files(settings).get(part)
    if file and not file.exists():
        raise FileNotFoundError(errno.ENOENT, trouble_text.say("screen.no_file", terminal_language()), str(file))


def _clock(settings: Settings) -> Clock:
    try:
        return clock_from(settings.virtual_clock)
    except FileNotFoundError:
        return SystemClock()


def screen(health: Health, language: Language, width: int) -> RenderableType:
    """Return the screen, for a terminal of `width` columns."""
    says = trouble_text.say.section("screen", language)
    parts: list[RenderableType] = [_troubles(health, language, width)]
    parts.append(_services(health, says))
    parts.append(_line(health, says))
    parts.append(_disks(health, says, trouble_text.say.section("part", language)))
    return Group(*parts)


def _troubles(health: Health, language: Language, width: int) -> RenderableType:
    says = trouble_text.say.section("screen", language)
    if not health.troubles:
        return Text(says["well"], style="bold green")
    lines = [Text(says["wrong_title"], style="bold red")]
    for trouble in sorted(health.troubles, key=lambda each: each.since):
        since = says["since"].format(since=_moment(trouble.since))
        lines += _hanging(f"● {trouble_text.wrong(trouble, language)}  {since}", 2, width, "bold")
        for more in filter(None, (trouble.where, trouble.detail)):
            lines += _hanging(f"  {more}", 2, width, "dim")
        lines += _hanging(f"  → {trouble_text.advice(trouble, language)}", 4, width)
    return Group(*lines)


def _hanging(text: str, indent: int, width: int, style: str = "") -> list[Text]:
    return [Text(line, style=style, no_wrap=True) for line in wrap(text, width, indent=indent)]


def _services(health: Health, says: Mapping[str, str]) -> Table:
    table = _table(says["services"], says["service"], says["state"], says["shards"], says["rate"])
    services = health.services or []
    for one in sorted(services, key=lambda each: (each.service, each.name)):
        is_running = health.is_running(one)
        state = Text(_state(one, says, is_running=is_running), style="green" if is_running else "bold red")
        rates = ", ".join(f"{says.get(name, name)} {rate:g}" for name, rate in one.per_minute.items())
        table.add_row(one.name, state, str(one.facts.get("shards", "")), rates if is_running else "")
    for claim in health.log.claims if health.log else []:
        if claim.service not in {one.service for one in services}:
            place = claim.holder.partition(":")[0]
            table.add_row(f"{claim.worker} @ {place}", says["elsewhere"], f"{claim.first}-{claim.last}", "")
    if not table.row_count:
        table.add_row(says["unknown" if health.services is None else "none"], "", "", "")
    return table


def _state(one: Status, says: Mapping[str, str], *, is_running: bool) -> str:
    if is_running:
        return says["running"].format(span=span(real_now() - one.began))
    return says["silent"].format(span=span(real_now() - one.at))


def _line(health: Health, says: Mapping[str, str]) -> Table:
    table = _table(says["line"], "", "")
    unknown = says["unknown"]
    log, records = health.log, health.records
    table.add_row(says["log_head"], str(sum(log.heads.values())) if log else unknown)
    table.add_row(says["telemetry_lag"], _lag(health.stored, says))
    table.add_row(says["alerting_lag"], _lag(health.followed, says))
    table.add_row(says["held"], _counts(log.held, says) if log else unknown)
    table.add_row(says["dead"], str(log.dead) if log else unknown)
    for kind in GatewayFaultKind:
        table.add_row(says[kind], _faults(log, kind, says) if log else unknown)
    table.add_row(says["clocks"], str(len(log.clocks) or says["none"]) if log else unknown)
    table.add_row(says["unsent"], _unsent(health, says) if records else unknown)
    table.add_row(says["overdue"], str(records.overdue) if records else unknown)
    table.add_row(says["backup"], says["backup_none"])
    return table


def _disks(health: Health, says: Mapping[str, str], names: Mapping[str, str]) -> Table:
    table = _table(says["disks"], says["folder"], says["free"])
    for disk in health.disks:
        style = "bold red" if disk.trouble() else ""
        parts = ", ".join(names.get(part, part) for part in disk.parts)
        table.add_row(f"{disk.folder} ({parts})", Text(_room(disk.free), style=style))
    return table


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, show_header=any(heads))
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _lag(lag: Lag | None, says: Mapping[str, str]) -> str:
    if lag is None:
        return says["unknown"]
    if lag.oldest is None:
        return str(lag.entries)
    return f"{lag.entries}, {says['oldest'].format(since=_moment(lag.oldest))}"


def _unsent(health: Health, says: Mapping[str, str]) -> str:
    if health.records is None:
        return says["unknown"]
    waiting = str(health.records.messages.get(MessageState.QUEUED, 0))
    since = health.records.unsent_since
    return waiting if since is None else f"{waiting}, {says['oldest'].format(since=_moment(since))}"


def _faults(log: LogStatus, kind: GatewayFaultKind, says: Mapping[str, str]) -> str:
    """Name the gateways with the most."""
    found = sorted((one for one in log.faults if one.kind is kind), key=lambda one: -one.n)
    more = f", + {len(found) - _NAMED}" if len(found) > _NAMED else ""
    return ", ".join(f"{one.gw or '?'} {one.n}" for one in found[:_NAMED]) + more or says["none"]


def _counts(counts: Mapping[str, int], says: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or says["none"]


def _moment(at: Instant) -> str:
    """Write an instant in this machine's local time, with the day unless it is today."""
    local = datetime.fromtimestamp(at / 1000).astimezone()
    return f"{local:%H:%M:%S}" if abs(real_now() - at) < DAY // 2 else f"{local:%Y-%m-%d %H:%M}"


def _room(free: int) -> str:
    return f"{free / _GIB:.1f} GiB" if free >= _GIB else f"{free / _MIB:.1f} MiB"


class _TroubleReport(msgspec.Struct, frozen=True):
    part: str
    kind: str
    since: Instant
    where: str
    detail: str
    wrong: str
    advice: str


class _Answer(msgspec.Struct, frozen=True):
    ok: bool
    troubles: Sequence[_TroubleReport]
    health: Health


def _json(health: Health) -> str:
    troubles = [
        _TroubleReport(
            one.part,
            one.kind,
            one.since,
            one.where,
            one.detail,
            trouble_text.wrong(one),
            trouble_text.advice(one),
        )
        for one in health.troubles
    ]
    answer = _Answer(not troubles, troubles, msgspec.structs.replace(health, troubles=[]))
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()
