"""Checks of the three stores: records, intake log, telemetry."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.damage import remedy
from coldchain.checks.finding import Finding, bad, good, say
from config.secrets import Secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting
from core.db.engine import connect, url_for
from core.health.disk_space import files
from core.intake import port as intake
from core.intake.factory import is_ready, open_log
from core.migrations.migrate import NewerDatabase, pending
from core.runtime.sqlite import malformed_text, open_read_only
from core.runtime.trouble import TroubleKind, kind_of
from core.telemetry.factory import embedded_folder
from core.telemetry.port import TelemetryUnavailable


def records(settings: Settings) -> Finding:
    """Check that the records can be read and whether they need a migration."""
    what = say("what.records")
    url = make_url(url_for(settings.records.url, settings.data_dir))
    shown = url.render_as_string(hide_password=True)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if file and not file.exists():
        return good(what, shown + say("stores.later"))
    engine = looking_into(settings)
    try:
        with malformed_text(), engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        with malformed_text():
            behind = pending(engine)
    except (SQLAlchemyError, sqlite3.Error) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        damaged = file and kind_of(error) is TroubleKind.DAMAGED
        return bad(what, f"{shown}: {reason}", remedy(file) if file and damaged else say("records.mend"))
    except NewerDatabase as error:
        return bad(what, f"{shown}: {error}", say("stores.newer"))
    finally:
        engine.dispose()
    return good(what, shown + (say("stores.migrate") if behind else ""))


def looking_into(settings: Settings) -> Engine:
    """Return an engine on the records; an SQLite file is opened read-only."""
    url = make_url(url_for(settings.records.url, settings.data_dir))
    if url.get_backend_name() != "sqlite":
        return connect(settings.records.url)
    return create_engine(url, creator=partial(open_read_only, Path(url.database or "")))


def intake_log(settings: Settings) -> Finding:
    """Check that the intake log can be opened."""
    what = say("what.intake")
    where = settings.intake.url or say("intake.default")
    shown = re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", where)
    try:
        ready = is_ready(settings.intake.url, settings.data_dir)
    except (intake.IntakeUnavailable, intake.NewerLog, InvalidSetting, OSError) as error:
        file = files(settings).get("intake log")
        mend = remedy(file) if file and kind_of(error) is TroubleKind.DAMAGED else say("intake.mend")
        return bad(what, f"{shown}: {str(error).splitlines()[0]}", mend)
    return good(what, shown + ("" if ready else say("stores.later")))


def numbers_seen(settings: Settings) -> Iterator[Finding]:
    """Name the gateways of which the intake log no longer knows what it has: nothing of theirs is taken in."""
    try:
        if not is_ready(settings.intake.url, settings.data_dir):
            return
        with closing(open_log(settings.intake.url, settings.data_dir)) as log:
            gateways = sorted({gw for gw, _ in log.damaged_lives()})
    except (intake.IntakeUnavailable, intake.NewerLog, InvalidSetting, OSError):
        return  # the check of the log itself has said so
    for gw in gateways:
        yield bad(say("what.gateway", number=gw), say("numbers.damaged"), say("numbers.mend"))


def page_checksums(settings: Settings) -> Iterator[Finding]:
    """Look whether each PostgreSQL has checksums of its pages: without them it reads a turned byte as it is."""
    urls = {url for url in (settings.records.url, settings.intake.url) if url.startswith("postgresql")}
    by_server = {(url.host, url.port, url.query.get("host")): url for url in map(make_url, sorted(urls))}
    for url in by_server.values():
        engine = connect(url.render_as_string(hide_password=False))
        try:
            with engine.connect() as connection:
                enabled = connection.execute(text("SHOW data_checksums")).scalar()
        except SQLAlchemyError:
            continue  # the check of the store itself has said so
        finally:
            engine.dispose()
        what, where = say("what.pages"), url.render_as_string(hide_password=True)
        if enabled == "on":
            yield good(what, say("checksums.on", where=where))
        else:
            yield bad(what, say("checksums.off", where=where), say("checksums.mend"))


def telemetry(settings: Settings, secrets: Secrets | None) -> Finding:
    """Check both tokens of an InfluxDB. The embedded store has only files, which another check reads."""
    what = say("what.telemetry")
    telemetry_settings = settings.telemetry
    if telemetry_settings.store == "embedded":
        return good(what, say("telemetry.embedded", folder=embedded_folder(settings)))
    if secrets is None:
        return bad(what, say("secrets.needed"), "coldchain init")
    from core.telemetry.influx_setup import Server  # noqa: PLC0415 (an edge box never needs it)

    server = Server(telemetry_settings)
    where = say("telemetry.where", url=telemetry_settings.url)
    try:
        version = server.version()
        lack = say("telemetry.fresh") if server.is_fresh() else ""
        for name, write in (("influx_write", True), ("influx_read", False)):
            lack = lack or server.lacks(getattr(secrets, name), write=write)
    except TelemetryUnavailable as error:
        return bad(what, str(error), say("telemetry.mend"))
    if lack:
        return bad(what, f"{where}: {lack}", "coldchain telemetry init")
    return good(what, say("telemetry.good", where=where, version=version, bucket=telemetry_settings.bucket))


def retention(settings: Settings, secrets: Secrets | None) -> Iterator[Finding]:
    """Check whether an InfluxDB bucket deletes what is old: readings, and with them the cursor of the intake log."""
    telemetry_settings = settings.telemetry
    if telemetry_settings.store == "embedded" or secrets is None:
        return
    from core.telemetry.influx_setup import Server  # noqa: PLC0415 (an edge box never needs it)

    bucket = telemetry_settings.bucket
    try:
        keeps_s = Server(telemetry_settings).keeps_s(secrets.influx_write)
    except TelemetryUnavailable:
        return  # the check of the store itself has said so
    if keeps_s:
        state = say("retention.ends", bucket=bucket, days=round(keeps_s / 86_400, 1))
        yield bad(say("what.retention"), state, say("retention.mend", bucket=bucket))
    else:
        yield good(say("what.retention"), say("retention.none", bucket=bucket))
