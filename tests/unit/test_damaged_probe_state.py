"""Whatever the bytes are that the rules' memory has become, a probe is made of them."""

from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from alerting.evaluating.probe_state import ProbeState
from core.devices.directory import Place
from core.ids import Centi, ProbeId, SeriesId, ZoneId
from core.rules.live_state import LimitState, RecentReadings, SensorState
from core.rules.rule_types import Sample
from core.runtime.instant import MINUTE, Instant

NOW = Instant(1_774_632_960_000)
PLACE = Place(SeriesId(1), ProbeId(1), MINUTE, ZoneId(1), "refrigerated", None, None)
MEMORIES = {
    "recent": RecentReadings(zone=ZoneId(1), samples=[Sample(NOW, Centi(500), 0)]),
    "above": LimitState(),
    "below": LimitState(),
    "bad_sensor": SensorState(),
}


def packed(name: str, flips: dict[int, int]) -> bytes:
    whole = bytearray(msgspec.msgpack.encode(MEMORIES[name]))
    for place, value in flips.items():
        whole[place % len(whole)] = value
    return bytes(whole)


flipped = st.dictionaries(st.integers(0, 200), st.integers(0, 255), max_size=4)


@given(
    flips=st.fixed_dictionaries(dict.fromkeys(MEMORIES, flipped)),
    condition=st.sampled_from(["ok", "active", "clearing", "warming", "?"]),
)
def test_a_probe_is_made_of_any_bytes(flips: dict[str, dict[int, int]], condition: str) -> None:
    row: Any = SimpleNamespace(
        recent=packed("recent", flips["recent"]), shard="00", received_at=NOW, q=0, newest_at=NOW, value=500
    )
    rules: dict[str, Any] = {
        name: SimpleNamespace(memory=packed(name, flips[name]), condition=condition, zone_id=1, changed_at=NOW)
        for name in ("above", "below", "bad_sensor")
    }
    probe = ProbeState(PLACE, row, rules)
    assert probe.live_state.recent is not None
    if not any(flips.values()):
        assert not probe.unreadable
