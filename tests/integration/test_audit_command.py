"""`coldchain audit verify` as an operator runs it, in both languages."""

from pathlib import Path

import pytest
from sqlalchemy import text

from coldchain import audit_command
from config import secrets
from config.settings import Settings
from core.db import audit, audit_chain
from core.db.engine import Records, connect, url_for
from core.migrations.migrate import upgrade
from core.runtime.instant import Instant

NOW = Instant(1_774_632_960_000)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=str(tmp_path))
    secrets.write(made.data_dir, secrets.fresh("coldchain"))
    return made


def records_of(settings: Settings) -> Records:
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    upgrade(records.engine)
    for act in ("unit added", "unit renamed"):
        with records.write() as tx:
            audit.record(tx, at=NOW, actor="operator", act=act, subject="unit:1")
    with records.write() as tx:
        audit_chain.seal(tx, audit_chain.chain_key(secrets.read(settings.data_dir).index_key), NOW)
    return records


def test_without_records_nothing_is_made(settings: Settings) -> None:
    code, (line,) = audit_command.verify(settings)
    assert (code, "does not exist" in line) == (0, True)
    assert not (Path(settings.data_dir) / "records.db").exists()


def test_it_prints_a_head_to_note_and_finds_it_again(settings: Settings) -> None:
    records_of(settings).close()
    code, (whole, head_line) = audit_command.verify(settings)
    assert (code, whole) == (0, "2 rows under 1 seal, all as they were sealed; 0 not sealed yet")
    head = head_line.removeprefix("head ")
    assert audit_command.verify(settings, f" {head.upper()} ")[0] == 0
    code, lines = audit_command.verify(settings, "ab" * 32)
    assert code == 1
    assert "cut off" in lines[0]


@pytest.mark.parametrize(
    ("locale", "fault"),
    [
        ("C.UTF-8", "row 2 of the audit log was changed after it was sealed"),
        ("zh_CN.UTF-8", "审计记录第 2 条在封存后被修改"),
    ],
)
def test_it_names_the_first_row_that_was_changed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, locale: str, fault: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    records = records_of(settings)
    with records.write() as tx:
        tx.execute(text("DROP TRIGGER append_only_audit_update"))
        tx.execute(text("UPDATE audit SET actor = 'account:7' WHERE id = 2"))
    records.close()
    code, lines = audit_command.verify(settings)
    assert (code, lines[0]) == (1, fault)


def test_a_seal_can_not_be_changed_by_the_way(settings: Settings) -> None:
    records = records_of(settings)
    with pytest.raises(Exception, match="audit_seal is append only"), records.write() as tx:
        tx.execute(text("DELETE FROM audit_seal"))
    records.close()
