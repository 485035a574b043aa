"""Contract of a channel. A new channel adds one line to CHANNELS, and its provider beside it.

A provider is the other side on a real socket: it can be broken, and it knows what people received.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from alerting.delivering.channels.port import Address, Channel, MessageRefused, OutgoingMessage, Recipient, RetryLater
from alerting.delivering.channels.wechat import wechat_channel
from core.db.engine import Records
from tests.fixtures.messages import message_of
from tests.fixtures.wechat import SECRET, Wechat, wechat_simulator


class Provider(Protocol):
    channel: Channel
    drops_copies: bool
    secrets: tuple[str, ...]

    def person(self, name: str) -> Address: ...

    def message(self, key: str, to: Address) -> OutgoingMessage: ...

    def received(self, to: Address) -> int: ...

    def breaks(self, how: str, times: int = 1) -> None: ...

    def loses(self, to: Address) -> None: ...

    def shuts_out(self) -> str:
        """Refuse everything for a reason that is the account's; return the code that it gives."""


class WechatProvider:
    drops_copies = True
    secrets: tuple[str, ...] = (SECRET, "access_token")

    def __init__(self, sim: Wechat, records: Records) -> None:
        channel = wechat_channel(sim.settings, SECRET, records)
        assert channel is not None
        self.channel: Channel = channel
        self.sim = sim

    def person(self, name: str) -> Address:
        self.sim.people(name)
        return name

    def message(self, key: str, to: Address) -> OutgoingMessage:
        return message_of(key, to)

    def received(self, to: Address) -> int:
        return len(self.sim.received(to))

    def breaks(self, how: str, times: int = 1) -> None:
        self.sim.fault("message/template/send", how, times=times, seconds=1.5)

    def loses(self, to: Address) -> None:
        self.sim.people(to, state="unsubscribed")

    def shuts_out(self) -> str:
        self.sim.fault("message/template/send", "errcode", times=1, errcode=45009)
        return "45009"


@contextmanager
def wechat(folder: Path) -> Iterator[Callable[[Records], Provider]]:
    with wechat_simulator(folder, timeout=1.0) as sim:
        yield lambda records: WechatProvider(sim.start_over(), records)


Runs = Callable[[Path], AbstractContextManager[Callable[[Records], Provider]]]
CHANNELS: dict[str, Runs] = {"wechat": wechat}


@pytest.fixture(scope="module", params=CHANNELS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Records], Provider]]:
    with CHANNELS[request.param](tmp_path_factory.mktemp(request.param)) as fresh:
        yield fresh


@pytest.fixture
def provider(running: Callable[[Records], Provider], sqlite_records: Records) -> Provider:
    return running(sqlite_records)


def test_what_was_handed_over_is_received(provider: Provider) -> None:
    to = provider.person("a")
    receipt = provider.channel.send(provider.message("1:1:1:0:3:x:alarm", to), to)
    assert receipt.number
    assert provider.received(to) == 1


@pytest.mark.parametrize("how", ["hang", "reset", "http_502", "html", "truncated", "lost_answer", "errcode"])
def test_what_may_not_have_arrived_is_tried_again_with_the_same_bytes(provider: Provider, how: str) -> None:
    to = provider.person("a")
    message = provider.message("1:1:1:0:3:x:alarm", to)
    provider.channel.send(provider.message("2:1:1:0:3:x:alarm", to), to)
    provider.breaks(how)
    with pytest.raises(RetryLater) as raised:
        provider.channel.send(message, to)
    assert not raised.value.channel_wide
    provider.channel.send(message, to)
    copies = provider.received(to) - 1
    assert copies == 1 if provider.drops_copies else copies in (1, 2)


@pytest.mark.req("AL-05")
def test_who_cannot_be_reached_is_refused_and_named_so(provider: Provider) -> None:
    to = provider.person("a")
    provider.loses(to)
    with pytest.raises(MessageRefused) as raised:
        provider.channel.send(provider.message("1:1:1:0:3:x:alarm", to), to)
    assert raised.value.unreachable
    assert provider.received(to) == 0


def test_what_is_the_account_s_is_a_wait_for_all_and_somebody_is_to_mend_it(provider: Provider) -> None:
    to = provider.person("a")
    message = provider.message("1:1:1:0:3:x:alarm", to)
    code = provider.shuts_out()
    with pytest.raises(RetryLater) as raised:
        provider.channel.send(message, to)
    assert (raised.value.code, raised.value.channel_wide, raised.value.ops) == (code, True, True)
    assert raised.value.after is not None
    assert raised.value.after >= 60
    provider.channel.send(message, to)
    assert provider.received(to) == 1


@pytest.mark.req("AL-05")
def test_who_has_no_address_is_refused_without_asking(provider: Provider) -> None:
    with pytest.raises(MessageRefused):
        provider.channel.send(provider.message("1:1:1:0:3:x:alarm", ""), "")


@pytest.mark.parametrize("how", ["hang", "reset"])
def test_it_has_come_back_within_its_longest_send_and_tells_no_secret(provider: Provider, how: str) -> None:
    to = provider.person("a")
    provider.breaks(how)
    began = time.monotonic()
    with pytest.raises(RetryLater) as raised:
        provider.channel.send(provider.message("1:1:1:0:3:x:alarm", to), to)
    assert time.monotonic() - began < provider.channel.longest_send_s
    said = f"{raised.value} {raised.value.__cause__} {raised.value.detail}"
    assert not [secret for secret in provider.secrets if secret in said]
    assert 0 < len(raised.value.code) <= 20


def test_several_threads_use_it_at_once(provider: Provider) -> None:
    to = provider.person("a")
    messages = [provider.message(f"{number}:1:1:0:3:x:alarm", to) for number in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda message: provider.channel.send(message, to), messages))
    assert len({receipt.number for receipt in receipts}) == 40
    assert provider.received(to) == 40


def test_what_it_takes_over_it_can_send(provider: Provider) -> None:
    to = provider.person("a")
    message = provider.message("1:1:1:0:3:x:alarm", to)
    taken = provider.channel.take_over(message, Recipient(openid=to, phone=None))
    if taken is not None:
        address, body = taken
        provider.channel.send(OutgoingMessage(message.key, message.kind, body), address)
        assert provider.received(address) == 1
