"""The simulator is an oracle: it has to be right by itself."""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socket import create_server
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import requests

from coldchain.simulate.wechat.account import OfficialAccount, Template, User, misfit
from coldchain.simulate.wechat.service import run
from coldchain.simulate.wechat.tokens import FORCED_APART_MS, OVERLAP_MS, SimulatedTokens, TokenStanding
from core.runtime.clock import ClockKeeper
from core.runtime.instant import Instant
from tests.fixtures.messages import body_of
from tests.fixtures.wechat import SECRET, Wechat, wechat_simulator

KEY = "1:1:1:0:3:wechat:alarm"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wechat]:
    with wechat_simulator(tmp_path_factory.mktemp("wechat")) as simulator:
        yield simulator


@pytest.fixture
def sim(running: Wechat) -> Wechat:
    running.start_over().people("a", "b")
    return running


def token(sim: Wechat) -> str:
    credential = {"grant_type": "client_credential", "appid": "wx-demo", "secret": SECRET}
    answer = requests.get(f"{sim.url}/cgi-bin/token", params=credential, timeout=5)
    return answer.json()["access_token"]  # type: ignore[no-any-return]


def send(sim: Wechat, body: bytes | dict[str, Any], held: str | None = None) -> dict[str, Any]:
    answer = requests.post(
        f"{sim.url}/cgi-bin/message/template/send",
        params={"access_token": held or token(sim)},
        data=body if isinstance(body, bytes) else msgspec.json.encode(body),
        timeout=5,
    )
    assert answer.status_code == 200
    return answer.json()  # type: ignore[no-any-return]


def body(**other: Any) -> dict[str, Any]:
    return msgspec.json.decode(body_of(KEY, "a"), type=dict[str, Any]) | other


def test_a_copy_is_dropped_for_ten_minutes_a_person(sim: Wechat) -> None:
    first, copy = send(sim, body()), send(sim, body())
    assert first["errcode"] == copy["errcode"] == 0
    assert first["msgid"] == copy["msgid"] > 2**53
    send(sim, body(touser="b"))
    assert (len(sim.received("a")), len(sim.received("b"))) == (1, 1)
    sim.skipped_ms += 599_000
    send(sim, body())
    assert len(sim.received("a")) == 1
    sim.skipped_ms += 1_000
    send(sim, body())
    assert len(sim.received("a")) == 2


def test_without_an_id_nothing_is_a_copy(sim: Wechat) -> None:
    one = body()
    del one["client_msg_id"]
    send(sim, one)
    send(sim, one)
    assert len(sim.received("a")) == 2


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"touser": "nobody"}, 40003),
        ({"template_id": "t"}, 40037),
        ({"data": {}}, 47003),
        ({"data": []}, 47003),
        ({"client_msg_id": "x" * 33}, 47003),
    ],
)
def test_what_is_wrong_is_said_with_http_200(sim: Wechat, wrong: dict[str, Any], code: int) -> None:
    said = send(sim, body(**wrong))
    assert said["errcode"] == code
    assert " rid: " in said["errmsg"]
    assert sim.received() == []


def test_what_is_no_json_is_47001(sim: Wechat) -> None:
    assert send(sim, b"touser=a")["errcode"] == 47001


@pytest.mark.parametrize(
    ("state", "code"), [("unsubscribed", 43004), ("snapshot", 43004), ("blocking", 43101), ("blacklisted", 43019)]
)
def test_who_does_not_want_it_does_not_get_it(sim: Wechat, state: str, code: int) -> None:
    sim.people("a", state=state)
    assert send(sim, body())["errcode"] == code
    assert sim.received() == []


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("thing1", "字" * 20, True),
        ("thing1", "字" * 21, False),
        ("thing1", "😀" * 10, True),
        ("thing1", "😀" * 11, False),
        ("thing1", "", False),
        ("thing1", "a\nb", False),
        ("thing1", None, False),
        ("character_string1", "x" * 32, True),
        ("character_string1", "x" * 33, False),
        ("character_string1", "温", False),
        ("phrase1", "一级报警", True),
        ("phrase1", "一二三四五六", False),
        ("phrase1", "L1", False),
        ("time1", "2026年03月28日 03:02", True),
        ("time1", "2026-03-28 03:02", True),
        ("time1", "15:01~16:02", True),
        ("time1", "24:00", False),
        ("time1", "3 o'clock", False),
        ("number1", "9.4", True),
        ("number1", "九", False),
    ],
)
def test_a_field_holds_what_its_kind_allows(key: str, value: str | None, fits: bool) -> None:  # noqa: FBT001
    template = Template("t", "t", f"x:{{{{{key}.DATA}}}}")
    assert (misfit(template, {key: {"value": value}}) is None) == fits


def test_keys_are_exactly_the_templates() -> None:
    template = Template("t", "t", "x:{{thing1.DATA}}")
    assert misfit(template, {}) == "thing1"
    assert misfit(template, {"thing1": {"value": "a"}, "first": {"value": "b"}}) == "first"


def test_quotas_end_and_can_be_cleared(tmp_path: Path) -> None:
    account = OfficialAccount(users=[User("a", "a")], a_minute=2, a_day=3)
    with wechat_simulator(tmp_path, account=account) as sim:
        held = token(sim)
        codes = [send(sim, body(client_msg_id=str(number)), held)["errcode"] for number in range(3)]
        assert codes == [0, 0, 45011]
        sim.skipped_ms += 60_000
        codes = [send(sim, body(client_msg_id=str(number)), held)["errcode"] for number in range(3, 5)]
        assert codes == [0, 45009]
        cleared = requests.post(
            f"{sim.url}/cgi-bin/clear_quota", params={"access_token": held}, json={"appid": "wx-demo"}, timeout=5
        )
        assert cleared.json()["errcode"] == 0
        assert send(sim, body(client_msg_id="5"), held)["errcode"] == 0


class Times:
    def __init__(self) -> None:
        self.now = Instant(1_000_000_000)

    def __call__(self) -> Instant:
        return self.now

    def later(self, ms: int) -> None:
        self.now = Instant(self.now + ms)


def test_a_new_plain_token_ends_the_last_after_an_overlap() -> None:
    times = Times()
    kept = SimulatedTokens(7200, times)
    stable, _ = kept.stable(force=False)
    first, life = kept.plain()
    second, _ = kept.plain()
    assert life == 7200
    times.later(OVERLAP_MS - 1)
    assert (kept.standing(first), kept.standing(second)) == (TokenStanding.GOOD, TokenStanding.GOOD)
    times.later(1)
    assert (kept.standing(first), kept.standing(second)) == (TokenStanding.EXPIRED, TokenStanding.GOOD)
    assert kept.standing(stable) is TokenStanding.GOOD
    assert kept.standing("made up") is TokenStanding.INVALID


def test_the_stable_token_stays_the_same_until_shortly_before_its_end() -> None:
    times = Times()
    kept = SimulatedTokens(7200, times)
    first, _ = kept.stable(force=False)
    times.later(7_200_000 - OVERLAP_MS - 1)
    assert kept.stable(force=False)[0] == first
    times.later(1)
    second, _ = kept.stable(force=False)
    assert second != first
    assert kept.standing(first) is TokenStanding.GOOD


def test_a_forced_refresh_ends_the_token_at_once_and_works_twice_a_minute() -> None:
    times = Times()
    kept = SimulatedTokens(7200, times)
    first, _ = kept.stable(force=True)
    assert kept.stable(force=True)[0] == first
    times.later(FORCED_APART_MS)
    second, _ = kept.stable(force=True)
    assert second != first
    assert kept.standing(first) is TokenStanding.INVALID


def test_what_was_received_cannot_be_changed_and_outlives_a_restart(tmp_path: Path) -> None:
    account = OfficialAccount(users=[User("a", "小明")])
    with wechat_simulator(tmp_path, account=account) as sim:
        send(sim, body())
    with sqlite3.connect(tmp_path / "phones.db") as file:
        for change in ("UPDATE received SET openid = 'b'", "DELETE FROM received"):
            with pytest.raises(sqlite3.IntegrityError, match="received"):
                file.execute(change)
    file.close()
    with wechat_simulator(tmp_path, account=account) as sim:
        [message] = sim.received()
        assert (message["name"], message["number"]) == ("小明", 1)
        send(sim, body())
        assert len(sim.received()) == 1


@pytest.mark.parametrize("kind", ["reset", "hang", "http_502", "html", "errcode"])
def test_a_fault_keeps_a_message_from_a_phone(sim: Wechat, kind: str) -> None:
    held = token(sim)
    sim.fault("message/template/send", kind)
    with suppress(requests.RequestException, AssertionError):
        send(sim, body(), held)
    assert sim.received() == []


@pytest.mark.parametrize("kind", ["lost_answer", "truncated", "slow"])
def test_a_fault_of_the_answer_alone_does_not(sim: Wechat, kind: str) -> None:
    held = token(sim)
    sim.fault("message/template/send", kind)
    with suppress(requests.RequestException):
        send(sim, body(), held)
    assert len(sim.received()) == 1


def test_a_fault_hits_as_often_as_it_was_planned(sim: Wechat) -> None:
    held = token(sim)
    sim.fault("message/template/send", "errcode", times=2, every=2, errcode=-1)
    codes = [send(sim, body(client_msg_id=str(number)), held)["errcode"] for number in range(6)]
    assert codes == [0, -1, 0, -1, 0, 0]


def test_phones_can_be_looked_at(sim: Wechat) -> None:
    send(sim, body(url="http://127.0.0.1:9/a/token"))
    send(sim, body(client_msg_id="x", url="javascript:alert(1)"))
    for page in ("/sim/", "/sim/phone/a"):
        shown = requests.get(f"{sim.url}{page}", timeout=5).text
        assert re.search(r'<a class="open" href="/sim/open/\d+">', shown)
        assert "javascript:" not in shown
        assert "9.4℃高于上限8.0℃" in shown
        assert "<script" not in shown
        assert "http-equiv" in shown
    assert requests.get(f"{sim.url}/sim/phone/nobody", timeout=5).status_code == 404


@pytest.mark.parametrize("what", ["users", "faults"])
def test_a_lever_pulled_wrongly_says_so(sim: Wechat, what: str) -> None:
    answer = requests.post(f"{sim.url}/sim/{what}", json=[{"kind": "flood"}], timeout=5)
    assert answer.status_code == 422
    assert answer.json()["problem"]


@pytest.mark.parametrize(
    "asked", [{"appid": "x"}, {"redirect_uri": "javascript:1"}, {"scope": "all"}, {"response_type": "token"}]
)
def test_a_sign_in_that_is_asked_for_wrongly_is_refused(sim: Wechat, asked: dict[str, str]) -> None:
    right = {
        "appid": "wx-demo",
        "redirect_uri": "http://127.0.0.1:9/",
        "response_type": "code",
        "scope": "snsapi_base",
        "state": "s",
        "as": "a",
    }
    answer = requests.get(f"{sim.url}/connect/oauth2/authorize", params=right | asked, allow_redirects=False, timeout=5)
    assert answer.status_code == 400


def test_the_service_stamps_what_arrives_with_the_demos_clock(tmp_path: Path) -> None:
    keeper = ClockKeeper(tmp_path / "clock.json", start=Instant(1_000_000), speed=0)
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stop = threading.Event()
    clock_file = str(tmp_path / "clock.json")

    def serve() -> None:
        run(tmp_path, host="127.0.0.1", port=port, stop=stop, virtual_clock=clock_file)

    service = threading.Thread(target=serve)
    service.start()
    sim = Wechat(f"http://127.0.0.1:{port}")
    ends = time.monotonic() + 10
    while True:
        try:
            sim.people("a")
            break
        except requests.ConnectionError:
            assert time.monotonic() < ends
            time.sleep(0.02)
    keeper.step_to(Instant(2_000_000))
    send(sim, body())
    [message] = sim.received()
    assert message["at"] == 2_000_000
    assert message["real"] > 1_700_000_000_000
    stop.set()
    service.join(5)
    assert not service.is_alive()


def test_a_browser_that_was_told_whose_phone_it_is_is_not_asked_again_unless_that_was_wrong(sim: Wechat) -> None:
    asked = {
        "appid": "wx-demo",
        "redirect_uri": "http://127.0.0.1:9/",
        "response_type": "code",
        "scope": "snsapi_base",
    }
    where = f"{sim.url}/connect/oauth2/authorize"
    send(sim, body(url="http://127.0.0.1:9/a/token", client_msg_id="opened"))
    (number,) = [message["number"] for message in sim.received()]
    with requests.Session() as browser:

        def ask(**more: str) -> requests.Response:
            return browser.get(where, params=asked | more, allow_redirects=False, timeout=5)

        assert "这是谁的手机" in ask().text
        assert ask(**{"as": "b"}).status_code == 302
        assert "这是谁的手机" in ask().text, "asked again at once: the answer was another's"
        browser.cookies.clear(domain="127.0.0.1", path="/connect/oauth2/authorize", name="wechat_sim_answered")
        assert ask().status_code == 302
        opened = browser.get(f"{sim.url}/sim/open/{number}", allow_redirects=False, timeout=5)
        assert opened.headers["location"] == "http://127.0.0.1:9/a/token"
        code = parse_qs(urlsplit(ask().headers["location"]).query)["code"][0]
    identify = {"appid": "wx-demo", "secret": SECRET, "code": code, "grant_type": "authorization_code"}
    told = requests.get(f"{sim.url}/sns/oauth2/access_token", params=identify, timeout=5).json()
    assert told["openid"] == "a", "opened on the phone that got it"
    assert requests.get(f"{sim.url}/sim/open/{number + 9}", timeout=5).status_code == 404
