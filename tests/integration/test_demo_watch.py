"""Phones on the demo's terminal, over records and a WeChat that were there before it."""

from pathlib import Path

from coldchain.demo.watcher import Watcher
from core.db.engine import Records
from core.runtime.instant import Instant
from core.wechat.client import connect
from tests.fixtures.messages import body_of
from tests.fixtures.wechat import SECRET, wechat_simulator

NOW = Instant(1_774_670_400_000)


def test_a_second_run_shows_whom_the_first_told_and_announces_the_new_alone(
    sqlite_records: Records, tmp_path: Path
) -> None:
    with wechat_simulator(tmp_path) as wechat:
        wechat.people("a", "b")
        client = connect(wechat.settings, SECRET, sqlite_records)
        client.send_template(body_of("1:1:1:0:3:wechat:alarm", "a"))
        second_run = Watcher(sqlite_records, wechat.url)
        view = second_run.view(NOW)
        assert ([message.person for message in view.messages], list(view.happened), second_run.message_count) == (
            ["a"],
            [],
            0,
        )
        client.send_template(body_of("2:1:1:0:3:wechat:alarm", "b"))
        view = second_run.view(NOW)
        assert ([message.person for message in view.messages], second_run.message_count) == (["a", "b"], 1)
        assert len(view.happened) == 1
