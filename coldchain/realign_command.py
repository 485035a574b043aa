"""Realignment for the command line: makes the plan, carries it out, and returns the lines to print.

The services may run meanwhile: while a cursor is misplaced they only wait, and they go on by themselves afterwards.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing

from sqlalchemy.exc import SQLAlchemyError

from coldchain.commands.texts import say
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.health.cursor_alignment import STORE_OF, CursorFault
from core.health.disk_space import files
from core.health.realign import CursorMove, RealignPlan, carry_out, plan
from core.intake import port as intake
from core.intake.factory import is_ready, open_log
from core.migrations.migrate import NewerDatabase, pending
from core.runtime.status import read_all
from core.runtime.trouble import TroubleKind, first_line
from core.telemetry import embedded_file as telemetry_file
from core.telemetry.codec import Damaged
from core.telemetry.factory import open_telemetry

_GONE = {CursorFault.PUT_BACK: "realign.gone_pruned", CursorFault.ENTRIES_MISSING: "realign.gone_missing"}
"""Texts about entries that are gone, where the log itself is not an older copy."""


def realign(settings: Settings, *, yes: bool) -> tuple[int, list[str]]:
    """Say what must be placed again, and do it with `yes`; returns the exit code and the lines.

    The code is 1 while something is out of place. Raises: NoSecrets, InvalidSetting.
    """
    try:
        with ExitStack() as stack:
            records = stack.enter_context(closing(Records(connect(url_for(settings.records.url, settings.data_dir)))))
            if missing := _missing(settings, records):
                return 1, [say("realign.missing", part=say(f"realign.part.{missing}"))]
            log = stack.enter_context(closing(open_log(settings.intake.url, settings.data_dir)))
            telemetry = stack.enter_context(closing(open_telemetry(settings, read_only=not yes)))
            made = plan(log, records, telemetry)
            lines = _plan_lines(made)
            if made.is_empty and not _refused(settings):
                return 0, [say("realign.none")]
            if not yes:
                return 1, [*lines, say("realign.ask")]
            carry_out(made, log, records, telemetry)
            is_done = plan(log, records, telemetry).is_empty
            return (0 if is_done else 1), [*lines, say("realign.done" if is_done else "realign.again")]
    except (
        SQLAlchemyError,
        sqlite3.Error,
        OSError,
        NewerDatabase,
        intake.IntakeUnavailable,
        intake.NewerLog,
        telemetry_file.NewerFile,
        Damaged,
    ) as error:
        return 1, [say("realign.failed", error=first_line(error))]


def _missing(settings: Settings, records: Records) -> str | None:
    """Return the first store that isn't there. It isn't made here: the services make it, and wait.

    An embedded telemetry store that isn't there answers like an empty one.
    """
    for part, file in files(settings).items():
        if not file.exists():
            return part.replace(" ", "_")
    if pending(records.engine):
        return "records"
    if not is_ready(settings.intake.url, settings.data_dir):
        return "intake_log"
    return None


def _refused(settings: Settings) -> bool:
    """Return whether a running service reports that the log was replaced while it was open, though all cursors fit."""
    fresh = (status for status in read_all(settings.data_dir).values() if status.fresh)
    return any(trouble.kind is TroubleKind.PUT_BACK for status in fresh for trouble in status.troubles)


def _plan_lines(made: RealignPlan) -> list[str]:
    lines = []
    if made.gaps:
        lines.append(_gaps_line(made.gaps))
    if made.damaged_lives:
        gateways = sorted({gw for gw, _ in made.damaged_lives})
        lines.append(say("realign.numbers", gateways=len(gateways), gw=gateways[0]))
    groups: dict[tuple[str, CursorFault], list[CursorMove]] = defaultdict(list)
    for each in made.placings:
        groups[each.found.reader, each.found.fault].append(each)
    for (reader, fault), some in groups.items():
        lines.append(_line(reader, fault, some))
        if gone := sum(each.gone for each in some):
            text = _GONE.get(fault, "realign.gone_log")
            lines.append(say(text, reader=say(f"realign.reader.{reader}"), entries=gone))
    if any(each.found.fault not in _GONE for each in made.placings):
        lines.append(say("realign.lost"))
    if made.placings:
        lines.append(say("realign.series", highest=made.highest_series))
    return [*lines, say("realign.name")]


def _gaps_line(gaps: Sequence[intake.EntryGap]) -> str:
    return say(
        "realign.gaps",
        entries=sum(gap.last - gap.first + 1 for gap in gaps),
        shards=len({gap.shard for gap in gaps}),
        shard=gaps[0].shard,
        first=gaps[0].first,
        last=gaps[0].last,
    )


def _line(reader: str, fault: CursorFault, some: Sequence[CursorMove]) -> str:
    first = some[0]
    return say(
        f"realign.fault.{fault}",
        reader=say(f"realign.reader.{reader}"),
        store=say(f"realign.part.{STORE_OF[reader]}"),
        shards=len(some),
        shard=first.found.shard,
        position=first.found.position,
        head=first.found.head,
        copy=first.found.copy,
        to=first.to,
        again=sum(each.again for each in some),
    )
