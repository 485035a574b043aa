"""`coldchain telemetry init` and `verify`, and what `coldchain check` says of the store."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import requests
from sqlalchemy import update

from coldchain import telemetry_commands
from coldchain.checks import Finding, check
from coldchain.demo.environment import free_port
from config import secrets
from config.secrets import Secrets
from config.settings import RecordsSettings, Settings, TelemetrySettings
from core.db.engine import Records
from core.figures.tables import Daily
from core.ids import Centi, SeriesId
from core.runtime.clock import real_now
from core.runtime.instant import DAY, HOUR, Instant
from core.telemetry.factory import open_telemetry
from core.telemetry.port import StoredReading, TelemetryUnavailable
from tests.fixtures.influx import Influxd
from tests.fixtures.site import day, site_in


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Influxd]:
    """A server that nobody has set up."""
    folder = tmp_path / "influxd"
    folder.mkdir()
    server = Influxd(folder).start()
    yield server
    server.kill()


def installation(folder: Path, telemetry: TelemetrySettings) -> Settings:
    settings = Settings(data_dir=str(folder), telemetry=telemetry)
    secrets.write(settings.data_dir, secrets.fresh("coldchain"))
    return settings


def kept(settings: Settings) -> Secrets:
    return secrets.read(settings.data_dir)


def finding(settings: Settings) -> Finding:
    return next(each for each in check(settings) if each.what == "telemetry")


def status_of(settings: Settings, token: str, method: str, path: str, body: dict[str, object] | None = None) -> int:
    headers = {"Authorization": f"Token {token}"}
    return requests.request(method, settings.telemetry.url + path, json=body, headers=headers, timeout=10).status_code


def test_init_makes_all_that_services_need_and_no_more(tmp_path: Path, fresh: Influxd) -> None:
    settings = installation(tmp_path / "data", fresh.settings("readings"))
    assert "nobody has set it up" in finding(settings).state
    code, told = telemetry_commands.init(settings, "")
    assert code == 0
    assert sum("made" in line for line in told) == 2
    after = kept(settings)
    assert len({after.influx_write, after.influx_read, after.influx_operator} - {""}) == 3
    assert after.broker
    assert finding(settings).good
    assert "v2.9.1" in finding(settings).state

    now = real_now()
    one = StoredReading(SeriesId(1), now, Centi(410), 0)
    writer, reader = open_telemetry(settings), open_telemetry(settings, read_only=True)
    writer.write_batch([one], {})
    assert list(reader.range(SeriesId(1), Instant(0), Instant(now + HOUR)).samples(SeriesId(1))) == [one]
    writer.close()
    reader.close()
    # A token that is stolen from a service opens nothing else, and the reader's changes nothing.
    for token in (after.influx_write, after.influx_read):
        assert status_of(settings, token, "POST", "/api/v2/orgs", {"name": "mine"}) in (401, 403)
        assert status_of(settings, token, "GET", "/api/v2/query/analyze") >= 400
    stolen = msgspec.structs.replace(after, influx_write=after.influx_read)
    secrets.write(settings.data_dir, stolen)
    thief = open_telemetry(settings)
    with pytest.raises(TelemetryUnavailable, match=r"40[13]"):
        thief.write_batch([one], {})
    thief.close()


def test_init_again_changes_nothing_and_mends_what_is_gone(tmp_path: Path, fresh: Influxd) -> None:
    settings = installation(tmp_path / "data", fresh.settings("readings"))
    telemetry_commands.init(settings, "")
    before = kept(settings)
    code, told = telemetry_commands.init(settings, "")
    assert (code, kept(settings)) == (0, before)
    assert "left as they are" in told[-1]

    secrets.write(settings.data_dir, msgspec.structs.replace(before, influx_read="stale"))
    assert "may not read" in finding(settings).state
    assert finding(settings).mend == "coldchain telemetry init"
    code, told = telemetry_commands.init(settings, "")
    assert code == 0
    assert kept(settings).influx_read not in ("stale", before.influx_read)
    assert kept(settings).influx_write == before.influx_write
    assert finding(settings).good

    other = msgspec.structs.replace(settings, telemetry=fresh.settings("another"))
    code, told = telemetry_commands.init(other, "")
    assert "bucket another made" in told
    assert finding(other).good


def test_init_on_somebody_elses_server_asks_for_their_token_once(tmp_path: Path, fresh: Influxd) -> None:
    theirs = installation(tmp_path / "theirs", fresh.settings("theirs"))
    telemetry_commands.init(theirs, "")
    operator = kept(theirs).influx_operator
    ours = installation(tmp_path / "ours", msgspec.structs.replace(fresh.settings("readings"), org="县疾控 & partners"))
    code, told = telemetry_commands.init(ours, "")
    assert code == 1
    assert "INFLUX_TOKEN" in told[0]
    code, told = telemetry_commands.init(ours, operator)
    assert code == 0
    assert told[0] == "organisation 县疾控 & partners made"
    assert kept(ours).influx_operator == ""
    assert telemetry_commands.init(ours, "")[0] == 0
    assert finding(ours).good


def test_a_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    settings = installation(
        tmp_path, TelemetrySettings(store="influxdb", url=f"http://127.0.0.1:{free_port()}", timeout=2)
    )
    code, told = telemetry_commands.init(settings, "")
    assert code == 1
    assert settings.telemetry.url in told[0]
    assert not finding(settings).good
    assert "start InfluxDB" in finding(settings).mend
    code, told = telemetry_commands.verify(settings)
    assert (code, "influxd inspect" in told[0]) == (0, True)


def test_the_embedded_store_needs_no_init_and_can_be_verified(tmp_path: Path) -> None:
    settings = installation(tmp_path, TelemetrySettings())
    assert telemetry_commands.init(settings, "")[0] == 0
    assert finding(settings).good
    assert "nothing was ever stored" in telemetry_commands.verify(settings)[1][0]
    store = open_telemetry(settings)
    now = real_now()
    store.write_batch([StoredReading(SeriesId(n), now, Centi(n), 0) for n in range(50)], {})
    code, told = telemetry_commands.verify(settings)
    assert code == 0
    assert "50 readings" in told[0]
    store.close()
    with sqlite3.connect(tmp_path / "telemetry" / "hot.db") as db:
        (data,) = db.execute("SELECT data FROM frame").fetchone()
        db.execute("UPDATE frame SET data = ?", (data[:-1] + bytes([data[-1] ^ 1]),))
    db.close()
    code, told = telemetry_commands.verify(settings)
    assert code == 1
    assert "1 damaged" in told[-2]


def test_daily_figures_are_verified_on_either_store(tmp_path: Path, sqlite_records: Records) -> None:
    url = sqlite_records.engine.url.render_as_string()
    for telemetry in (TelemetrySettings(), TelemetrySettings(store="influxdb")):
        settings = msgspec.structs.replace(installation(tmp_path, telemetry), records=RecordsSettings(url=url))
        assert telemetry_commands.verify(settings)[1][-1] == "0 daily figures, all as they were computed"
    with site_in(tmp_path, sqlite_records) as site:
        site.works()
        site.takes("208601", [(n, 5.0) for n in range(60)])
        site.is_day(2)
    assert telemetry_commands.verify(settings)[1][-1] == "4 daily figures, all as they were computed"
    with sqlite_records.write() as tx:
        tx.execute(update(Daily).where(Daily.series_id == 2, Daily.day == day(1)).values(gap=0))
    code, told = telemetry_commands.verify(settings)
    assert code == 1
    assert "day 2026-02-28, series 2" in told[-2]
    assert "1 damaged" in told[-1]


def test_verify_makes_nothing_and_names_what_is_broken_and_goes_on(tmp_path: Path) -> None:
    settings = installation(tmp_path, TelemetrySettings())
    assert telemetry_commands.verify(settings)[0] == 0
    assert not (tmp_path / "records.db").exists()
    store = open_telemetry(settings)
    january = Instant(1_767_225_600_000)
    store.write_batch([StoredReading(SeriesId(n), Instant(january + n * 40 * DAY), Centi(n), 0) for n in range(3)], {})
    store.seal(real_now())
    store.close()
    (tmp_path / "telemetry" / "202602.db").write_bytes(b"not a database at all")
    code, told = telemetry_commands.verify(settings)
    assert code == 1
    assert "202602.db" in told[0]
    assert "2 readings in 2 day blocks" in told[1]
