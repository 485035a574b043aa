"""The HTTP process itself: it comes up before its stores do, ends in time, and logs no secret."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.service import run
from config import secrets
from config.settings import ApiSettings, RecordsSettings, Settings
from core.alarms.links import AlarmLink, sign
from core.alarms.tables import PeriodicJob
from core.db.engine import Records, connect
from core.ids import AlarmId, PersonId
from core.migrations.migrate import upgrade
from core.runtime.clock import real_now
from core.runtime.instant import DAY, Instant
from core.runtime.status import StatusFile
from core.runtime.trouble import Trouble, TroubleKind
from core.telemetry.factory import open_telemetry
from tests.fixtures.databases import fresh_url
from tests.fixtures.waiting import until

DEADLINE_S = 20.0


def settings_in(folder: Path, **more: Any) -> Settings:
    secrets.write(str(folder), secrets.fresh("coldchain"))
    return Settings(data_dir=str(folder), api=ApiSettings(port=0), **more)


def port_of(folder: Path) -> int:
    until(lambda: StatusFile(folder, "api").read() is not None, within_s=DEADLINE_S)
    status = StatusFile(folder, "api").read()
    assert status is not None
    return int(status.facts["port"])


@contextmanager
def running(settings: Settings) -> Iterator[httpx.Client]:
    stop, ended = threading.Event(), threading.Event()

    def serve() -> None:
        try:
            run(settings, stop)
        finally:
            ended.set()

    threading.Thread(target=serve, daemon=True).start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port_of(Path(settings.data_dir))}") as client:
        yield client
    stop.set()
    assert ended.wait(3.0), "it did not end within 3 s"


def checks(client: httpx.Client) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in client.get("/readyz").json()["checks"]}


def test_it_is_ready_once_stores_and_services_are_there_and_says_what_is_missing(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with running(settings) as client:
        assert client.get("/healthz").text == "ok\n"
        until(lambda: checks(client)["records"], within_s=DEADLINE_S)
        missing = {
            check["name"]: check["detail"] for check in client.get("/readyz").json()["checks"] if not check["ok"]
        }
        assert "coldchain collector" in missing["collector"]
        for service in ("collector", "writer", "alerting"):
            StatusFile(tmp_path, service).write({"problem": ""})
        open_telemetry(settings).close()
        until(lambda: client.get("/readyz").status_code == 200, within_s=DEADLINE_S)
        address = "connection to 10.1.2.3 refused"
        StatusFile(tmp_path, "alerting").write(
            {}, [Trouble("broker", TroubleKind.UNREACHABLE, real_now(), address, address)]
        )
        troubled = client.get("/readyz")
        assert troubled.status_code == 503
        (told,) = (check for check in troubled.json()["checks"] if not check["ok"])
        assert (told["name"], told["problem"]) == ("broker", "unreachable")
        assert "the broker can't be reached" in told["detail"]
        assert "10.1.2.3" not in troubled.text, "an address is nothing for strangers"
        assert 'coldchain_trouble{of="broker: unreachable"} 1.0' in client.get("/metrics").text
        StatusFile(tmp_path, "alerting").write({"problem": ""})
        records = Records(connect(f"sqlite:///{tmp_path / 'records.db'}"))
        with records.write() as tx:
            tx.add(PeriodicJob(name="audit", due_at=real_now(), detail="outbox_behind 12"))
        records.close()
        found = client.get("/readyz")
        assert found.status_code == 503
        (audit,) = (check for check in found.json()["checks"] if not check["ok"])
        assert audit["name"] == "audit"
        assert "outbox_behind 12" in audit["detail"]


def test_whom_a_proxy_on_the_same_machine_asks_for_is_no_neighbour(tmp_path: Path) -> None:
    """To the process every request that nginx passes on comes from this machine."""
    with running(settings_in(tmp_path)) as client:
        assert client.get("/metrics").status_code == 200
        for said in ("203.0.113.9", "127.0.0.1, 203.0.113.9"):
            assert client.get("/metrics", headers={"x-forwarded-for": said}).status_code == 403


def test_it_tells_a_stranger_the_kind_of_a_stores_error_and_the_log_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hot.db").mkdir()  # a folder where the file should be
    (tmp_path / "intake.db").mkdir()
    with running(settings_in(tmp_path)) as client:
        for _ in range(2):
            answer = client.get("/readyz")
            said = {check["name"]: check["detail"] for check in answer.json()["checks"] if not check["ok"]}
            assert "the intake log can't be opened for writing" in said["intake log"]
            assert "unable to open" not in answer.text
            assert str(tmp_path) not in answer.text
    assert "unable to open" in "".join(capsys.readouterr())


def test_it_answers_while_the_records_are_away_and_migrates_them_when_they_come(tmp_path: Path) -> None:
    url = fresh_url("sqlite", tmp_path).removeprefix("sqlite:///")
    away = tmp_path / "later" / "records.db"
    settings = settings_in(tmp_path / "data", records=RecordsSettings(url=f"sqlite:///{away}"))
    away.parent.mkdir()
    away.mkdir()  # a folder where the file should be
    with running(settings) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.post("/api/v1/session", json={"username": "a", "password": "b"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert not checks(client)["records"]
        away.rmdir()
        Path(url).rename(away)
        until(lambda: checks(client)["records"], within_s=DEADLINE_S)
        assert client.post("/api/v1/session", json={"username": "a", "password": "b"}).status_code == 401


def test_it_ends_in_time_while_somebody_holds_a_connection_open(tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as client:
        slow = httpx.Client(base_url=client.base_url)
        assert slow.get("/healthz").status_code == 200
        client.get("/healthz")
    slow.close()


def test_a_taken_port_is_waited_for_until_the_process_is_stopped(tmp_path: Path) -> None:
    with running(settings_in(tmp_path / "a")) as client:
        settings = Settings(
            data_dir=settings_in(tmp_path / "b").data_dir, api=ApiSettings(port=client.base_url.port or 0)
        )
        stop = threading.Event()
        waiting = threading.Thread(target=run, args=(settings, stop))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        stop.set()
        waiting.join(30)
        assert not waiting.is_alive()


def test_records_of_a_newer_version_end_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    engine = connect(f"sqlite:///{tmp_path / 'records.db'}")
    upgrade(engine)
    with Records(engine).write() as tx:
        tx.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(Exception, match="newer version"):
        run(settings, threading.Event())


def test_without_secrets_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(secrets.NoSecrets, match="coldchain init"):
        run(Settings(data_dir=str(tmp_path), api=ApiSettings(port=0)), threading.Event())


def test_as_a_process_it_logs_every_request_and_no_secret(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    file = tmp_path / "coldchain.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n[api]\nport = 0\n')
    link = AlarmLink(AlarmId(1), 1, PersonId(1), Instant(real_now() + DAY))
    token = sign(link, secrets.read(settings.data_dir).link_keys)
    log = tmp_path / "log"
    with log.open("wb") as err:
        process = subprocess.Popen([sys.executable, "-m", "coldchain", "api", "-c", str(file)], stderr=err)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port_of(tmp_path)}") as client:
            until(lambda: checks(client)["records"], within_s=DEADLINE_S)
            client.cookies.set("cc_session", "secretcookie")
            client.post("/api/v1/session", json={"username": "li", "password": "secretpassword"})
            client.get(f"/a/{token}")
            client.get(f"/sign-in?next=/a/{token}")
            client.get("/wechat/back?code=secretcode&state=secretstate")
            client.get("/api/v1/units", headers={"authorization": "Bearer cc_secrettoken"})
            client.get("/api/v1/units", headers={"x-request-id": "one-of-ours"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
    text = log.read_text("utf-8")
    answered = [line for line in map(json.loads, text.splitlines()) if line["event"] == "request answered"]
    assert [line["route"] for line in answered] == [
        "/api/v1/session",
        "/a/{token}",
        "/sign-in",
        "/wechat/back",
        "/api/v1/units",
        "/api/v1/units",
    ]
    assert answered[-1]["request_id"] == "one-of-ours"
    for secret in ("secretcookie", "secretpassword", "secretcode", "secretstate", "secrettoken", token):
        assert secret not in text
