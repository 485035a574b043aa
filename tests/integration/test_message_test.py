"""`coldchain message test`: what a person's phone gets, and what the operator reads of it."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from coldchain import installation
from coldchain.message_test import send_test
from config import secrets
from config.settings import Settings
from config.settings_loader import load_settings
from core.alarms.tables import OutboxMessage
from core.db.audit import Audit
from core.db.engine import Records, connect, url_for
from core.runtime.instant import Instant
from core.units.tables import Person
from tests.fixtures.county import add_unit
from tests.fixtures.delivering import SEND
from tests.fixtures.wechat import SECRET, Wechat, wechat_simulator


class Office:
    """An installation with an official account, and people."""

    def __init__(self, settings: Settings, sim: Wechat) -> None:
        self.settings = settings
        self.sim = sim

    def records(self) -> Records:
        return Records(connect(url_for(self.settings.records.url, self.settings.data_dir)))

    def person(self, name: str) -> Person:
        records = self.records()
        with records.read() as tx:
            found = tx.scalars(select(Person).where(Person.name == name)).one()
        records.close()
        return found


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    installation.init(tmp_path)
    bare = load_settings(tmp_path / "coldchain.toml")
    kept = secrets.read(bare.data_dir)
    secrets.write(bare.data_dir, msgspec.structs.replace(kept, wechat_secret=SECRET))
    with installation.open_records(bare) as records, records.write() as tx:
        unit, other = add_unit(tx, "县疾控"), add_unit(tx, "邻县疾控")
        tx.add(Person(unit_id=unit.id, name="王芳", openid="a", unreachable_since=Instant(1)))
        tx.add(Person(unit_id=unit.id, name="李建国", openid=None))
        tx.add(Person(unit_id=unit.id, name="孙丽", openid="b"))
        tx.add(Person(unit_id=other.id, name="孙丽", openid="c"))
        tx.add(Person(unit_id=unit.id, name="走了", openid="d", left_at=Instant(1)))
    with wechat_simulator(tmp_path / "sim", timeout=1.0) as sim:
        sim.people("a", "b", "c")
        yield Office(msgspec.structs.replace(bare, wechat=sim.settings), sim)


@pytest.mark.req("AL-05")
def test_it_is_on_the_phone_and_the_person_counts_as_reachable(office: Office) -> None:
    code, [line] = send_test(office.settings, "王芳")
    [message] = office.sim.received("a")
    assert (code, line) == (0, f"微信：已发出，消息编号 {message['msgid']}；请 王芳 确认手机上已收到")
    assert message["data"]["thing3"]["value"] == "测试消息，无需处理"
    assert office.person("王芳").unreachable_since is None
    records = office.records()
    with records.read() as tx:
        assert not tx.scalars(select(OutboxMessage)).all()
        assert [(row.act, row.subject) for row in tx.scalars(select(Audit))][-1] == ("test message sent", "person:1")
    records.close()
    assert send_test(office.settings, "1")[0] == 0
    assert len(office.sim.received("a")) == 2, "a second one is another message"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("没人", "没有叫"),
        ("走了", "没有叫"),
        ("99", "没有叫"),
        ("9" * 40, "没有叫"),
        ("李建国", "没有绑定"),
        ("", "没有叫"),
    ],
)
def test_who_cannot_be_told_is_said(office: Office, named: str, said: str) -> None:
    code, lines = send_test(office.settings, named)
    assert code == 1
    assert said in lines[0]
    assert office.sim.calls(SEND) == 0


def test_of_several_of_one_name_each_is_named_with_number_and_unit(office: Office) -> None:
    code, lines = send_test(office.settings, "孙丽")
    assert (code, lines[1:]) == (1, ["  3  孙丽（县疾控）", "  4  孙丽（邻县疾控）"])
    assert send_test(office.settings, "4")[0] == 0
    assert (len(office.sim.received("b")), len(office.sim.received("c"))) == (0, 1)


def test_what_the_account_is_refused_is_no_fault_of_the_person(office: Office) -> None:
    office.sim.fault(SEND, "errcode", errcode=45009)
    code, [line] = send_test(office.settings, "3")
    assert code == 1
    assert "45009" in line
    assert "问题不在此人" in line
    assert office.person("王芳").unreachable_since == 1, "nobody else is touched"


def test_who_blocks_us_is_said_and_marked(office: Office) -> None:
    office.sim.people("b", state="blocking")
    code, [line] = send_test(office.settings, "3")
    assert (code, "43101" in line) == (1, True)
    records = office.records()
    with records.read() as tx:
        assert tx.get_one(Person, 3).unreachable_since is not None
    records.close()


def test_without_a_channel_it_says_what_to_set(office: Office) -> None:
    bare = msgspec.structs.replace(office.settings, wechat=msgspec.structs.replace(office.settings.wechat, app_id=""))
    code, [line] = send_test(bare, "王芳")
    assert code == 1
    assert "[wechat]" in line
