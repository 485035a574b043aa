"""Verification of the audit log for `coldchain audit verify`: compares and returns the lines to print."""

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from coldchain.commands.texts import say
from config import secrets
from config.settings import Settings
from core.db import audit_chain
from core.db.audit_chain import ChainReport
from core.db.engine import Records, connect, url_for
from core.migrations.migrate import NewerDatabase, pending
from core.runtime.trouble import first_line


def verify(settings: Settings, noted_head: str = "") -> tuple[int, list[str]]:
    """Compare the audit log with its seals; return the exit code and the lines.

    Raises: NoSecrets.
    """
    key = audit_chain.chain_key(secrets.read(settings.data_dir).index_key)
    url = url_for(settings.records.url, settings.data_dir)
    file = make_url(url).database if url.startswith("sqlite") else None
    if file and not Path(file).exists():
        return 0, [say("audit.no_records", file=file)]
    records = Records(connect(url))
    try:
        if pending(records.engine):
            return 0, [say("audit.to_migrate")]
        with records.read() as tx:
            report = audit_chain.verify(tx, key, noted_head.strip().lower())
    except (SQLAlchemyError, NewerDatabase) as error:
        return 1, [f"records: {first_line(error)}"]
    finally:
        records.close()
    return _told(report, noted_head)


def _told(report: ChainReport, noted_head: str) -> tuple[int, list[str]]:
    if report.fault is None:
        whole = say("audit.whole", rows=report.rows, seals=report.seals, unsealed=report.unsealed)
        return 0, [whole, *([say("audit.head", head=report.head)] if report.head else [])]
    fault = say(f"audit.{report.fault.kind}", number=report.fault.number, head=noted_head)
    return 1, [fault, say("audit.so_far", rows=report.rows, seals=report.seals)]
