import sqlite3
from pathlib import Path

import pytest

from config.settings import AgentSettings
from core.mqtt.client import BrokerAddress
from core.runtime.clock import SystemClock
from core.runtime.instant import Instant
from core.wire.messages import Reading
from core.wire.shards import GatewayNumber
from gateway_agent.message_encoder import GatewayIdentity
from gateway_agent.uplink import Uplink, _Connected, _Delivered


def test_a_fault_in_sending_loses_no_reading_that_came_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uplink = Uplink(
        GatewayIdentity(GatewayNumber("10001"), "7f3a9c21", "0", "0", []),
        folder=tmp_path,
        agent=AgentSettings(),
        broker=BrokerAddress("127.0.0.1", 1),
        password="",
        clock=SystemClock(),
        health=list,
        polling=lambda: False,
    )

    def broken(_now: Instant) -> None:
        msg = "database disk image is malformed"
        raise sqlite3.DatabaseError(msg)

    monkeypatch.setattr(uplink._lanes, "restart", broken)
    now = SystemClock().now()
    with pytest.raises(sqlite3.DatabaseError):
        uplink._work([_Connected(), _Delivered([Reading(p="208601", ts=now, t=4.2)], "b", now)], ending=True)
    assert uplink.depth == 1
    uplink._lanes.close()
