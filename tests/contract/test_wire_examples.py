from pathlib import Path

import msgspec
import pytest

from core.wire import messages
from core.wire.messages import Ack, Batch, Birth, GatewayConfig, GatewayHealth, GatewayState, frozen_hash
from core.wire.topics import MessageKind

EXAMPLES = Path(messages.__file__).parent / "examples"
SCHEMAS: dict[MessageKind, type[msgspec.Struct]] = {
    MessageKind.DATA: Batch,
    MessageKind.BACKFILL: Batch,
    MessageKind.BIRTH: Birth,
    MessageKind.STATE: GatewayState,
    MessageKind.HEALTH: GatewayHealth,
    MessageKind.ACK: Ack,
    MessageKind.CONFIG: GatewayConfig,
}


def example(kind: MessageKind) -> bytes:
    return (EXAMPLES / f"{kind.value.partition('/')[2]}.json").read_bytes()


def test_every_kind_of_message_has_a_schema_and_an_example_and_nothing_else_does() -> None:
    assert set(SCHEMAS) == set(MessageKind)
    assert {file.stem for file in EXAMPLES.iterdir()} == {kind.value.partition("/")[2] for kind in MessageKind}


@pytest.mark.parametrize("kind", MessageKind)
def test_an_example_decodes_and_comes_back_the_same(kind: MessageKind) -> None:
    decoded = msgspec.json.decode(example(kind), type=SCHEMAS[kind])
    again = msgspec.json.decode(msgspec.json.encode(decoded), type=SCHEMAS[kind])
    assert again == decoded
    said = msgspec.json.decode(example(kind))
    assert set(said) <= set(decoded.__struct_fields__), "the example shows a field that the schema doesn't know"


@pytest.mark.parametrize("kind", MessageKind)
def test_unknown_fields_are_ignored(kind: MessageKind) -> None:
    said = msgspec.json.decode(example(kind)) | {"later": {"a": 1}}
    assert msgspec.json.decode(msgspec.json.encode(said), type=SCHEMAS[kind])


def test_a_failed_reading_says_null_and_why() -> None:
    batch = msgspec.json.decode(example(MessageKind.DATA), type=Batch)
    failed = batch.r[2]
    assert failed.t is None
    assert failed.q == 4


def test_the_frozen_hash_forgets_what_is_stamped_at_each_publish_and_nothing_else() -> None:
    batch = msgspec.json.decode(example(MessageKind.DATA), type=Batch)
    stamped = msgspec.structs.replace(batch, sent=batch.sent + 1, lost=[(1, 2)], clk=messages.ClockReport("none"))
    assert frozen_hash(stamped) == frozen_hash(batch)
    for other in ({"gw": "10002"}, {"ep": "0" * 16}, {"boot": "0" * 8}, {"seq": 1}, {"r": batch.r[:1]}):
        assert frozen_hash(msgspec.structs.replace(batch, **other)) != frozen_hash(batch)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (MessageKind.DATA, {"seq": 0}),
        (MessageKind.DATA, {"ep": "xyz"}),
        (MessageKind.DATA, {"r": []}),
        (MessageKind.DATA, {"v": 2}),
        (MessageKind.DATA, {"r": [{"p": "1", "ts": 1, "t": "4.2"}]}),
        (MessageKind.DATA, {"r": [{"p": "1", "ts": 1, "t": 4.2, "q": 65536}]}),
        (MessageKind.STATE, {"state": "away"}),
        (MessageKind.ACK, {"have": [[1]]}),
    ],
)
def test_what_breaks_the_contract_is_refused(kind: MessageKind, wrong: dict[str, object]) -> None:
    said = msgspec.json.decode(example(kind)) | wrong
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(said), type=SCHEMAS[kind])
