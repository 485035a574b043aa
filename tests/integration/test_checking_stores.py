"""`coldchain check` on servers that would let damage pass, or delete readings; `import` while stores don't fit."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from coldchain import installation, realign_command, telemetry_commands
from coldchain.checks import stores
from coldchain.checks.finding import Finding
from config import secrets
from config.settings import RecordsSettings, Settings
from config.settings_loader import convert
from core.db.engine import Records, connect, url_for
from core.devices.tables import Series
from core.ids import Centi, SeriesId
from core.intake.cursor_marks import mark
from core.intake.sqlite import SqliteIntakeLog
from core.migrations.migrate import upgrade
from core.runtime.instant import Instant
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.port import StoredReading
from core.units.tables import Unit
from core.wire.shards import shard_of
from tests.fixtures.databases import PostgresProcess
from tests.fixtures.influx import bucket_of, token_of_this_run
from tests.fixtures.intake_logs import GW, batch

COUNTY = """
since = 2020-01-01T00:00:00+08:00
[[unit]]
code = "610103"
name = "碑林区疾控中心"
kind = "cdc"
level = "county"
[[gateway]]
number = "10001"
unit = "610103"
[[equipment]]
code = "F1"
name = "1号冰箱"
kind = "冰箱"
unit = "610103"
zones = ["冷藏"]
[[probe]]
code = "208601冷藏"
gateway = "10001"
equipment = "F1"
interval = "60s"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    data = str(tmp_path / "data")
    secrets.write(data, secrets.fresh("coldchain"))
    made: Settings = convert({"data_dir": data}, "coldchain.toml")
    return made


def test_a_postgresql_without_page_checksums_is_named_with_the_way_to_have_them(settings: Settings) -> None:
    server = PostgresProcess()
    try:
        url = server.url.render_as_string(hide_password=False)
        on_server = msgspec.structs.replace(settings, records=RecordsSettings(url=url))
        (found,) = stores.page_checksums(on_server)
        assert not found.good
        assert "a byte that a disk turns" in found.state
        assert "pg_checksums --enable" in found.mend
        server.end()
        server.enable_checksums()
        server.start()
        (found,) = stores.page_checksums(on_server)
        assert found.good
    finally:
        server.stop()
    assert list(stores.page_checksums(settings)) == [], "SQLite has none to be enabled"


@pytest.mark.parametrize(("keep_s", "good"), [(0, True), (7 * 86_400, False)])
def test_a_bucket_that_deletes_by_itself_is_named(
    settings: Settings, tmp_path: Path, keep_s: int, *, good: bool
) -> None:
    on_server = msgspec.structs.replace(settings, telemetry=bucket_of(tmp_path, keep_s=keep_s))
    code, told = telemetry_commands.init(on_server, token_of_this_run())
    assert code == 0, told
    (found,) = _retention(on_server)
    assert found.good is good
    if not good:
        assert "older than 7.0 days" in found.state
        assert "influx bucket update --retention 0" in found.mend


def _retention(settings: Settings) -> list[Finding]:
    """Ask with the token that the services have, which may do nothing but read and write the bucket."""
    return list(stores.retention(settings, secrets.read(settings.data_dir)))


def test_import_is_refused_while_a_cursor_is_misplaced_and_gives_no_number_twice(
    settings: Settings, tmp_path: Path
) -> None:
    """Records that were made anew would give series 1 to the next probe, and telemetry has readings under it."""
    file = tmp_path / "county.toml"
    file.write_text(COUNTY, "utf-8")
    _work(settings)
    code, told = installation.import_into(settings, file)
    assert code == 1
    assert "coldchain realign" in told[0]
    with _records(settings) as records, records.read() as tx:
        assert tx.scalars(select(Unit)).all() == []
    assert realign_command.realign(settings, yes=True)[0] == 0
    code, told = installation.import_into(settings, file)
    assert code == 0, told
    with _records(settings) as records, records.read() as tx:
        assert tx.scalars(select(Series.id)).all() == [8]


def test_import_is_let_in_where_everything_fits(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "county.toml"
    file.write_text(COUNTY, "utf-8")
    SqliteIntakeLog(Path(settings.data_dir) / "intake.db").close()
    assert installation.import_into(settings, file)[0] == 0


def _work(settings: Settings) -> None:
    """Leave a log that alerting has followed, telemetry of series 7, and records that know of neither."""
    data, shard = Path(settings.data_dir), shard_of(GW)
    with closing(SqliteIntakeLog(data / "intake.db")) as log, closing(EmbeddedTelemetry(data / "telemetry")) as store:
        log.append([batch(1), batch(2)])
        marks = {shard: mark(log.names()[-1], log.read(shard, 1, 1)[0].batch)}
        store.write_batch([StoredReading(SeriesId(7), Instant(1_774_632_960_000), Centi(400), 0)], {shard: 2}, marks)
        for reader in ("telemetry", "alerting"):
            log.move_cursor(reader, {shard: 2})
    with _records(settings) as records:
        upgrade(records.engine)


@contextmanager
def _records(settings: Settings) -> Iterator[Records]:
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    try:
        yield records
    finally:
        records.close()
