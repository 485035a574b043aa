"""The hardened client against a WeChat that misbehaves."""

import logging
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import requests

from alerting.delivering.channels.port import MessageRefused, RetryLater
from alerting.delivering.channels.wechat import wechat_channel
from config.settings import WechatSettings as Settings
from core.db.engine import Records
from core.wechat.client import WechatClient, connect, try_token
from core.wechat.errcodes import VERDICTS, Verdict, WechatError
from core.wechat.oauth import NotIdentified, OAuth
from tests.fixtures.messages import body_of, message_of
from tests.fixtures.wechat import SECRET, Wechat

SEND = "message/template/send"
KEY = "1:1:1:0:3:wechat:alarm"


@pytest.fixture
def sim(running: Wechat) -> Wechat:
    running.start_over().people("a", "b")
    return running


@pytest.fixture
def client(sim: Wechat, sqlite_records: Records) -> WechatClient:
    return connect(sim.settings, SECRET, sqlite_records)


def test_the_stored_body_is_sent_byte_for_byte(sim: Wechat, client: WechatClient) -> None:
    body = body_of(KEY, "a")
    number = client.send_template(body)
    [message] = sim.received("a")
    assert message["body"].encode() == body
    assert message["msgid"] == number
    assert int(number) > 2**53


@pytest.mark.parametrize("act", ["expire", "revoke"])
def test_a_bad_token_is_replaced_once_and_the_message_passes(sim: Wechat, client: WechatClient, act: str) -> None:
    client.send_template(body_of(KEY, "a"))
    sim.spoil_tokens(act)
    client.send_template(body_of("2:1:1:0:3:wechat:alarm", "a"))
    assert len(sim.received("a")) == 2
    assert sim.calls(SEND) == 3


def test_a_token_that_stays_bad_is_asked_for_only_once_more(sim: Wechat, client: WechatClient) -> None:
    client.send_template(body_of(KEY, "a"))
    sim.fault(SEND, "errcode", times=None, errcode=40001)
    with pytest.raises(WechatError) as raised:
        client.send_template(body_of(KEY, "b"))
    assert raised.value.means is Verdict.ACCOUNT
    assert sim.calls(SEND) == 3
    assert sim.calls("stable_token") <= 3


@pytest.mark.parametrize("kind", ["hang", "reset", "http_502", "html", "truncated", "lost_answer"])
def test_a_token_that_cannot_be_fetched_is_a_wait(sim: Wechat, client: WechatClient, kind: str) -> None:
    sim.fault("stable_token", kind, seconds=1.5)
    with pytest.raises(WechatError) as raised:
        client.send_template(body_of(KEY, "a"))
    assert raised.value.means is Verdict.BUSY
    client.send_template(body_of(KEY, "a"))
    assert len(sim.received("a")) == 1


@pytest.mark.parametrize("code", [40001, 40125, 40164, 50002])
def test_an_account_that_gets_no_token_is_not_the_message_s_fault(sim: Wechat, client: WechatClient, code: int) -> None:
    sim.fault("stable_token", "errcode", errcode=code)
    with pytest.raises(WechatError) as raised:
        client.send_template(body_of(KEY, "a"))
    assert raised.value.means is Verdict.ACCOUNT


@pytest.mark.parametrize("code", sorted({*VERDICTS, 12345}))
def test_every_code_is_said_in_the_words_of_the_port(sim: Wechat, sqlite_records: Records, code: int) -> None:
    channel = wechat_channel(sim.settings, SECRET, sqlite_records)
    assert channel is not None
    sim.fault(SEND, "errcode", errcode=code, times=None)
    with pytest.raises((RetryLater, MessageRefused)) as raised:
        channel.send(message_of(KEY, "a"), "a")
    said = raised.value
    assert said.code == str(code)
    match VERDICTS.get(code, Verdict.UNKNOWN):
        case Verdict.BUSY:
            assert isinstance(said, RetryLater)
            assert not said.channel_wide
        case Verdict.SLOW_DOWN:
            assert isinstance(said, RetryLater)
            assert (said.after, said.channel_wide, said.ops) == (60.0, True, False)
        case Verdict.TOKEN | Verdict.ACCOUNT:
            assert isinstance(said, RetryLater)
            assert (said.after, said.channel_wide, said.ops) == (180.0, True, True)
        case Verdict.TEMPLATE | Verdict.UNKNOWN:
            assert isinstance(said, RetryLater)
            assert (said.held, said.channel_wide, said.ops) == (True, False, True)
        case Verdict.LIMITED:
            assert isinstance(said, RetryLater)
            assert (said.held, said.channel_wide, said.ops) == (True, False, False)
        case Verdict.NO_SUCH_PERSON:
            assert isinstance(said, MessageRefused)
            assert (said.unreachable, said.doubtful) == (True, True)
        case Verdict.UNREACHABLE:
            assert isinstance(said, MessageRefused)
            assert (said.unreachable, said.doubtful) == (True, False)
        case Verdict.REFUSED:
            assert isinstance(said, MessageRefused)
            assert (said.unreachable, said.ops) == (False, True)


def test_only_a_person_or_a_text_is_ever_given_up() -> None:
    given_up = {code for code, means in VERDICTS.items() if means in (Verdict.UNREACHABLE, Verdict.REFUSED)}
    assert given_up == {43004, 43019, 43101, 48002, 45168, 87014}
    assert VERDICTS[45009] is VERDICTS[48001] is Verdict.ACCOUNT


def test_success_without_an_errcode_is_no_receipt(client: WechatClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # The simulator never answers so; a broken proxy might.
    monkeypatch.setattr(client, "post", lambda *_, **__: {"msgid": 1})
    with pytest.raises(WechatError, match="no_errcode"):
        client.send_template(b"{}")


def test_wechatpys_own_calls_are_hardened_too(sim: Wechat, client: WechatClient) -> None:
    assert client.user.get("a")["subscribe"] == 1
    sim.spoil_tokens("expire")
    assert [one["template_id"] for one in client.template.get_all_private_template()["template_list"]] == [
        "alarm",
        "recovery",
    ]
    sim.fault("user/info", "html")
    with pytest.raises(WechatError, match="not_json"):
        client.user.get("a")


def test_neither_token_nor_secret_reaches_a_log_or_an_error(
    sim: Wechat, client: WechatClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    client.send_template(body_of(KEY, "a"))
    token = client.access_token
    said = []
    for kind in ("reset", "http_502", "html", "hang"):
        sim.fault(SEND, kind, seconds=1.5)
        with pytest.raises(WechatError) as raised:
            client.send_template(body_of(KEY, "a"))
        said.append(repr(raised.value) + repr(raised.value.__cause__))
    everything = [*said, caplog.text, *capfd.readouterr()]
    assert "wechat access renewed" in "".join(everything)
    assert not [text for text in everything if token in text or SECRET in text]


def test_a_message_composed_before_a_template_was_configured_gets_it_when_it_is_sent(
    sim: Wechat, sqlite_records: Records
) -> None:
    channel = wechat_channel(sim.settings, SECRET, sqlite_records)
    assert channel is not None
    early = message_of(KEY, "a")
    channel.send(type(early)(early.key, early.kind, body_of(KEY, "a", template="")), "a")
    assert sim.received("a")[0]["template"] == "alarm"


def test_without_an_account_there_is_no_channel(sim: Wechat, sqlite_records: Records) -> None:
    assert wechat_channel(sim.settings, "", sqlite_records) is None
    assert wechat_channel(Settings(), SECRET, sqlite_records) is None


def test_checking_a_configuration_says_what_is_wrong(sim: Wechat) -> None:
    assert try_token(sim.settings, SECRET) is None
    assert "40125" in (try_token(sim.settings, "wrong") or "")


def sign_in(oauth: OAuth, who: str, state: str = "s") -> dict[str, list[str]]:
    answer = requests.get(
        oauth.authorize_url("http://127.0.0.1:9/back?x=1", state).replace("#", f"&as={who}#"),
        allow_redirects=False,
        timeout=5,
    )
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("http://127.0.0.1:9/back?x=1&")
    return parse_qs(urlsplit(answer.headers["location"]).query)


def test_whose_phone_it_is_and_the_state_as_it_was(sim: Wechat) -> None:
    oauth = OAuth(sim.settings, SECRET)
    back = sign_in(oauth, "a", state="a&b=c#d %")
    assert back["state"] == ["a&b=c#d %"]
    assert oauth.openid(back["code"][0]) == "a"


def test_a_code_serves_once(sim: Wechat) -> None:
    oauth = OAuth(sim.settings, SECRET)
    [code] = sign_in(oauth, "a")["code"]
    oauth.openid(code)
    with pytest.raises(NotIdentified, match="40163"):
        oauth.openid(code)
    with pytest.raises(NotIdentified, match="40029"):
        oauth.openid("made up")


def test_a_code_grows_old(sim: Wechat) -> None:
    oauth = OAuth(sim.settings, SECRET)
    [code] = sign_in(oauth, "a")["code"]
    sim.skipped_ms += 300_000
    with pytest.raises(NotIdentified, match="40029"):
        oauth.openid(code)


def test_a_snapshot_page_identifies_nobody(sim: Wechat) -> None:
    sim.people("s", state="snapshot")
    oauth = OAuth(sim.settings, SECRET)
    [code] = sign_in(oauth, "s")["code"]
    with pytest.raises(NotIdentified, match="snapshot"):
        oauth.openid(code)


@pytest.mark.parametrize("code", [-1, 45009, 45011, 40164, 50002])
def test_a_sign_in_that_the_account_is_refused_may_be_tried_again(sim: Wechat, code: int) -> None:
    sim.fault("sns/oauth2/access_token", "errcode", errcode=code)
    with pytest.raises(NotIdentified, match=str(code)) as raised:
        OAuth(sim.settings, SECRET).openid("any")
    assert raised.value.temporary
    with pytest.raises(NotIdentified, match="40029") as spent:
        OAuth(sim.settings, SECRET).openid("any")
    assert not spent.value.temporary


@pytest.mark.parametrize("kind", ["hang", "reset", "http_502", "html", "truncated"])
def test_a_sign_in_that_gets_no_answer_may_be_tried_again(sim: Wechat, kind: str) -> None:
    oauth = OAuth(sim.settings, SECRET)
    [code] = sign_in(oauth, "a")["code"]
    sim.fault("sns/oauth2/access_token", kind, seconds=1.5)
    with pytest.raises(NotIdentified) as raised:
        oauth.openid(code)
    assert raised.value.temporary
    assert SECRET not in str(raised.value)


def test_the_page_asks_whose_phone_it_is(sim: Wechat) -> None:
    page = requests.get(OAuth(sim.settings, SECRET).authorize_url("http://127.0.0.1:9/b", "s"), timeout=5)
    assert '<button name="as" value="a">' in page.text
    assert "<script" not in page.text


def test_its_longest_send_has_room_for_the_wait_of_the_last_in_line(sim: Wechat, sqlite_records: Records) -> None:
    slow = wechat_channel(msgspec.structs.replace(sim.settings, rate=0.5), SECRET, sqlite_records)
    assert slow is not None
    assert slow.longest_send_s >= 6 * sim.settings.timeout + 15 / 0.5
