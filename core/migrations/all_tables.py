"""Metadata of all tables of the records, for migrations and for tests that create an empty database."""

import core.access.tables
import core.alarms.tables
import core.db.audit
import core.db.audit_chain
import core.db.idempotency
import core.devices.tables
import core.figures.tables
import core.units.tables
import core.wechat.tables
import core.workflow.tables
from core.db.table_base import Record

METADATA = Record.metadata

__all__ = ["METADATA", "core"]
