"""`coldchain status` as an operator and a script use it: it answers soon, whatever is wrong."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from coldchain import status_command
from collector.receiving.message_decoder import UnreadableMessage, decode
from config import secrets
from config.settings_loader import InvalidSetting, load_settings
from core.db.engine import Records, connect
from core.health import store_checks
from core.health.health_check import HealthCheck, Lag
from core.intake.factory import is_ready
from core.intake.port import DeadLetter, GatewayClock, LogEntry, ShardClaim, StampedReading, WithheldReading
from core.intake.sqlite import SqliteIntakeLog
from core.migrations.migrate import upgrade
from core.runtime.clock import SystemClock, real_now
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.runtime.process_lock import single_process
from core.runtime.status import StatusFile
from core.runtime.trouble import Trouble, TroubleKind
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.factory import open_telemetry
from core.wire.shards import GatewayNumber, Shard
from core.wire.topics import MessageKind as WireKind
from core.wire.topics import Topic
from tests.fixtures.databases import empty_url
from tests.fixtures.disks import hanging_disk, small_disk
from tests.fixtures.intake_logs import GW, batch
from tests.fixtures.tcp_proxy import TcpProxy
from tests.fixtures.waiting import until

SOON_S = 6.0
"""The few seconds that a look takes at most, and room for a busy machine."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installation whose services have just said that they are well."""
    secrets.write(str(tmp_path / "data"), secrets.fresh("coldchain"))
    (tmp_path / "coldchain.toml").write_text(f'data_dir = "{tmp_path / "data"}"\n', "utf-8")
    records = Records(connect(f"sqlite:///{tmp_path / 'data' / 'records.db'}"))
    upgrade(records.engine)
    records.close()
    SqliteIntakeLog(tmp_path / "data" / "intake.db").close()
    EmbeddedTelemetry(tmp_path / "data" / "telemetry").close()
    services_are_well(tmp_path)
    return tmp_path


def services_are_well(folder: Path) -> None:
    for service in ("collector", "writer", "alerting"):
        StatusFile(folder / "data", service).write({"shards": "00-ff"})


def looked(folder: Path, *, as_json: bool = False) -> tuple[int, str]:
    """Return exit code and output of the command, without the start of a process."""
    began, screen = time.monotonic(), io.StringIO()
    code = status_command.status(load_settings(folder / "coldchain.toml"), as_json=as_json, to=screen)
    assert time.monotonic() - began < SOON_S
    return code, screen.getvalue()


def answer(folder: Path) -> dict[str, Any]:
    code, text = looked(folder, as_json=True)
    found: dict[str, Any] = json.loads(text)
    assert found["ok"] == (not found["troubles"]) == (code == 0)
    return found


def told(folder: Path) -> dict[str, str]:
    return {trouble["part"]: trouble["kind"] for trouble in answer(folder)["troubles"]}


def of_gateway(folder: Path, kind: str) -> str:
    """What is told of a kind of trouble with gateways."""
    found = [trouble for trouble in answer(folder)["troubles"] if trouble["kind"] == kind]
    return str(found[0]["detail"]) if found else ""


def test_clones_dead_letters_quarantine_and_wrong_clocks_are_named_by_gateway(folder: Path) -> None:
    now = real_now()
    some = tuple(
        WithheldReading(StampedReading("a", "t", now, None, 4, now), "implausible", "")
        for _ in range(store_checks.PILED_UP)
    )
    with closing(SqliteIntakeLog(folder / "data" / "intake.db")) as log:
        log.append([batch(1, received=now)])
        log.append([batch(1, received=now, frozen=b"another")] * 3)
        log.append([], [], [DeadLetter(0, now, "cc/v1/00/10002/up/data", "no such thing", b"x")] * 2)
        log.append([msgspec.structs.replace(batch(2, received=now), held=some[1:])])
        log.note_clocks({GW: GatewayClock("7f3a9c21", Milliseconds(180 * MINUTE), now)})
        assert told(folder) == {"cloned gateways": "cloned", "dead letters": "unreadable", "gateway clocks": "skewed"}
        log.append([msgspec.structs.replace(batch(3, received=now), held=some[:1])])
    assert of_gateway(folder, "cloned").startswith("10001: 3, the last: ep ")
    assert of_gateway(folder, "unreadable") == "10002: 2, the last: no such thing"
    assert of_gateway(folder, "growing") == "10001: 100 readings"
    assert of_gateway(folder, "skewed") == "10001: 180 min behind"
    _, text = looked(folder)
    assert "10002 2" in text
    assert "10001 3" in text


def test_a_gateway_of_another_version_is_named_with_the_version_and_what_to_do(folder: Path) -> None:
    """Its messages are acknowledged and dead-lettered whole (docs/adr/0008-faulty-messages.md)."""
    topic = str(Topic(GatewayNumber("10002"), WireKind.DATA))
    with pytest.raises(UnreadableMessage) as unreadable:
        decode(topic, b'{"v":2,"gw":"10002","ep":"9f3c02d1a47be865","boot":"7f3a9c21","seq":1,"r":[]}')
    with closing(SqliteIntakeLog(folder / "data" / "intake.db")) as log:
        log.append([], [], [DeadLetter(0, real_now(), topic, str(unreadable.value), b"x")])
    told = "10002: 1, the last: v is 2, and this coldchain reads 1: update it, or put the gateway's firmware back"
    assert of_gateway(folder, "unreadable") == told


def test_what_gateways_did_wrong_long_ago_is_counted_and_no_trouble_any_more(folder: Path) -> None:
    then = Instant(real_now() - 2 * 86_400_000)
    some = (WithheldReading(StampedReading("a", "t", then, None, 4, then), "implausible", ""),) * (
        store_checks.PILED_UP + 1
    )
    with closing(SqliteIntakeLog(folder / "data" / "intake.db")) as log:
        log.append([msgspec.structs.replace(batch(1, received=then), held=some)])
        log.append([batch(1, received=then, frozen=b"another")])
        log.append([], [], [DeadLetter(0, then, "cc/v1/00/10002/up/data", "no such thing", b"x")])
        assert set(told(folder)) == {"telemetry writer", "alerting"}, "the log is read by nobody here"
        assert "10002 1" in looked(folder)[1]
        log.prune_held(before=Instant(0), most=store_checks.PILED_UP, now=real_now())
    assert of_gateway(folder, "growing").startswith("10001: 1 dropped, more than 100 were held")


def as_a_process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coldchain", *words, "-c", str(folder / "coldchain.toml")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_all_well_is_exit_code_0_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    code, screen = looked(folder)
    assert code == 0
    assert screen.startswith("All is well.")
    assert "00-ff" in screen
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert looked(folder)[1].startswith("一切正常。")


def test_what_is_wrong_stands_first_with_what_to_do_and_ends_with_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    gone = Trouble(
        "telemetry", TroubleKind.NO_ANSWER, Instant(real_now() - MINUTE), "http://10.1.2.3:8086", "timed out"
    )
    StatusFile(folder / "data", "collector").write({"shards": "00-ff"}, [gone])
    assert told(folder) == {"telemetry": "no_answer"}
    code, screen = looked(folder)
    assert code == 1
    first = screen.splitlines()[:6]
    assert first[0] == "What is wrong"
    assert "the telemetry store: no answer in time" in first[1]
    assert "http://10.1.2.3:8086" in first[2]
    assert "readings wait in the intake log" in "".join(first)


@pytest.mark.parametrize("locale", ["C.UTF-8", "zh_CN.UTF-8"])
def test_every_sentence_fits_eighty_columns_and_hangs_below_its_arrow(
    folder: Path, monkeypatch: pytest.MonkeyPatch, locale: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("COLUMNS", "80")
    long_path = "/srv/" + "telemetry/" * 9
    troubles = [Trouble("telemetry", kind, real_now(), long_path, "timed out") for kind in TroubleKind]
    StatusFile(folder / "data", "collector").write({}, troubles)
    told, _, tables = looked(folder)[1].partition("\nServices\n" if locale == "C.UTF-8" else "\n服务\n")
    lines = [line for line in told.splitlines() if line.strip() != long_path]
    assert [line for line in [*lines, *tables.splitlines()] if cell_len(line) > 80] == []
    assert len(told.splitlines()) - len(lines) >= len(TroubleKind) - 1, "a path stays whole"
    assert not any(line.strip() in ("→", "●") for line in lines)
    assert all(line.startswith(("●", "  ")) for line in lines[1:])


@pytest.mark.parametrize("off", [-60_000, 60_000], ids=["a minute ago", "before the clock was set back"])
def test_a_silent_service_and_one_that_never_ran_are_wrong(folder: Path, off: int) -> None:
    (folder / "data" / "status" / "alerting.json").unlink()
    file = folder / "data" / "status" / "collector.json"
    old = json.loads(file.read_text())
    file.write_text(json.dumps({**old, "at": old["at"] + off}))
    assert told(folder) == {"collector": "silent", "alerting": "never_ran"}


def test_a_process_that_has_ended_is_told_before_its_status_is_old(folder: Path) -> None:
    with single_process(str(folder / "data"), "writer", threading.Event()):
        assert told(folder) == {}
    assert told(folder) == {"writer": "silent"}
    assert "silent for" in looked(folder)[1]


def test_shards_that_nobody_takes_in_are_told_though_all_here_are_well(folder: Path) -> None:
    """As when the other machine has lost its power: what isn't taken in is behind nowhere."""
    log = SqliteIntakeLog(folder / "data" / "intake.db")
    for first, last in (("10", "7f"), ("80", "ef")):
        name = f"collector-{first}-{last}"
        log.claim(ShardClaim("collector", name, Shard(first), Shard(last), "here:/x"), lease=Milliseconds(60_000))
    (trouble,) = answer(folder)["troubles"]
    assert (trouble["part"], trouble["kind"], trouble["detail"]) == (
        "collector shards",
        "uncovered",
        "shards 00-0f, f0-ff",
    )
    for first, last in (("00", "0f"), ("f0", "ff")):
        log.claim(ShardClaim("collector", first, Shard(first), Shard(last), "there:/x"), lease=Milliseconds(60_000))
    log.close()
    assert told(folder) == {}


def test_one_of_several_that_is_silent_is_named_with_a_command_that_there_is(folder: Path) -> None:
    StatusFile(folder / "data", "alerting", "alerting-80-ff").write({})
    file = folder / "data" / "status" / "alerting-80-ff.json"
    old = json.loads(file.read_text())
    file.write_text(json.dumps({**old, "at": old["at"] - 60_000}))
    (trouble,) = answer(folder)["troubles"]
    assert trouble["part"] == "alerting-80-ff"
    assert "coldchain alerting, or its unit" in trouble["advice"]
    assert "status/alerting-80-ff.json" in trouble["advice"]


def test_a_log_that_readers_do_not_follow_is_counted_and_told(folder: Path) -> None:
    log = SqliteIntakeLog(folder / "data" / "intake.db")
    received = real_now() - 10 * MINUTE
    log.append([batch(seq, received=received + seq) for seq in range(1, 6)])
    log.claim(
        ShardClaim("collector", "collector-9", Shard("00"), Shard("7f"), "elsewhere:/x"), lease=Milliseconds(60_000)
    )
    log.close()
    found = answer(folder)
    health = found["health"]
    assert (health["stored"]["entries"], health["followed"]["entries"]) == (5, 5)
    assert health["stored"]["oldest"] == received + 1
    assert health["log"]["claims"][0]["worker"] == "collector-9"
    assert {trouble["kind"] for trouble in found["troubles"]} == {"behind", "uncovered"}


def test_a_store_that_hangs_or_is_gone_is_told_in_time(folder: Path) -> None:
    with TcpProxy("127.0.0.1", 1) as proxy:
        proxy.hangs = True
        url = f'url = "postgresql+psycopg://nobody@127.0.0.1:{proxy.port}/x"'
        with (folder / "coldchain.toml").open("a") as file:
            file.write(f"[records]\n{url}\n[intake]\n{url.replace(str(proxy.port), '1')}\n")
        assert told(folder).items() >= {"records": "no_answer", "intake log": "unreachable"}.items()


def test_a_log_that_hangs_in_the_middle_of_a_look_is_asked_once(folder: Path) -> None:
    """It says how far it goes, and then hangs with what waits in it."""
    asked, over = [], threading.Event()

    class Hanging(SqliteIntakeLog):
        def entries_after(self, shard: Shard, after: int, limit: int) -> list[LogEntry]:
            asked.append(shard)
            over.wait(30)
            return super().entries_after(shard, after, limit)

    settings = load_settings(folder / "coldchain.toml")
    with (
        closing(Hanging(folder / "data" / "intake.db")) as log,
        closing(Records(connect(f"sqlite:///{folder / 'data' / 'records.db'}"))) as records,
        closing(open_telemetry(settings, read_only=True)) as telemetry,
    ):
        log.append([batch(1)])
        opened = {"records": records, "log": log, "telemetry": telemetry}
        health_check = HealthCheck(
            settings, SystemClock(), **{name: partial(nullcontext, one) for name, one in opened.items()}
        )  # type: ignore[arg-type]
        for _ in range(3):
            health = health_check.run(0.5)
            assert (health.stored, health.followed) == (Lag(1, None), Lag(1, None))
        assert len(asked) == 2, "once for each of its two readers"
        over.set()
        until(lambda: (lag := health_check.run(0.5).stored) and lag.oldest, "an answer")


@pytest.mark.parametrize("part", ["telemetry", "spool"])
def test_a_disk_that_hangs_is_told_in_time_with_its_folder(folder: Path, part: str) -> None:
    kept = folder / "elsewhere" / part
    with (folder / "coldchain.toml").open("a") as file:
        file.write(
            f'[telemetry]\nfolder = "{kept}"\n'
            if part == "telemetry"
            else f'[agent]\nfolder = "{kept}"\n[[agent.gateways]]\nnumber = "10001"\nbuses = []\n'
        )
    with hanging_disk(kept):
        found = answer(folder)
        (trouble,) = found["troubles"]
        assert (trouble["part"], trouble["kind"], trouble["where"]) == (part, "no_answer", str(kept))
        assert "data folder" in found["health"]["disks"][0]["parts"], "the other disks are shown"
    assert "no_answer" not in told(folder).values()


def test_a_data_folder_that_hangs_is_told_and_nobody_in_it_called_silent(folder: Path) -> None:
    with hanging_disk(folder / "data"):
        done = as_a_process(folder, "status", "--json")
        assert done.returncode == 1, done.stderr
        found = json.loads(done.stdout)["troubles"]
        (trouble,) = (each for each in found if each["part"] == "data folder")
        assert (trouble["kind"], trouble["where"]) == ("no_answer", str(folder / "data"))
        assert {each["kind"] for each in found} == {"no_answer"}
    services_are_well(folder)  # a busy machine took longer than a status is good for
    assert told(folder) == {}


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    (tmp_path / "coldchain.toml").write_text(f'data_dir = "{tmp_path / "data"}"\n', "utf-8")
    done = as_a_process(tmp_path, "status")
    assert (done.returncode, done.stderr) == (1, "")
    assert [path.name for path in tmp_path.iterdir()] == ["coldchain.toml"]


def test_no_tables_are_made_by_looking_into_a_server(folder: Path) -> None:
    url = empty_url("postgresql", folder)
    with (folder / "coldchain.toml").open("a") as file:
        file.write(f'[intake]\nurl = "{url}"\n')
    assert told(folder) == {"intake log": "not_ready"}
    assert not is_ready(url, str(folder))


def test_a_user_who_may_not_look_is_told_so_and_not_that_nothing_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != folder / "data")
    with pytest.raises(InvalidSetting, match="run it as the one who runs the services"):
        looked(folder)


def test_a_service_that_starts_where_nothing_can_be_written_says_what_to_do_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", mib=1) as disk:
        secrets.write(str(tmp_path / "data"), secrets.fresh("coldchain"))
        (tmp_path / "coldchain.toml").write_text(f'data_dir = "{tmp_path / "data"}"\n', "utf-8")
        disk.read_only(yes=True)
        done = as_a_process(tmp_path, "collector")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "Read-only file system" in line
    assert "data_dir must be on a disk that has room" in line
