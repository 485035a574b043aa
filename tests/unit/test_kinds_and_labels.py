"""Labels as people write them."""

import pytest

from core.devices.kinds_and_labels import (
    CHINESE,
    EquipmentKind,
    ProbeName,
    WindowKind,
    ZoneKind,
    kind_of,
    parse_probe,
    zone_name,
)
from core.errors import Invalid


@pytest.mark.req("HW-29")
@pytest.mark.parametrize(
    ("label", "code", "zone"),
    [
        ("208604冷冻", "208604", ZoneKind.FROZEN),
        ("208601冷藏", "208601", ZoneKind.REFRIGERATED),
        (" 208601 冷藏 ", "208601", ZoneKind.REFRIGERATED),
        ("208604", "208604", None),
        ("A-7_b", "A-7_b", None),
    ],
)
def test_a_probes_label_is_its_code_and_perhaps_its_zone(label: str, code: str, zone: ZoneKind | None) -> None:
    assert parse_probe(label) == ProbeName(code, zone)


@pytest.mark.req("HW-29")
@pytest.mark.parametrize(
    "label", ["", "冷冻", "208604冷", "208604冷冻冷藏", "冷冻208604", "2086/04", "208 604", "x" * 65]
)
def test_what_is_no_label_is_refused_with_an_example(label: str) -> None:
    with pytest.raises(Invalid, match="such as 208604冷冻"):
        parse_probe(label)


@pytest.mark.req("HW-32")
def test_a_zone_is_shown_as_name_and_zone() -> None:
    assert zone_name("美菱冰箱", ZoneKind.REFRIGERATED) == "美菱冰箱冷藏"
    assert zone_name("美菱冰箱", ZoneKind.FROZEN) == "美菱冰箱冷冻"


def test_kinds_are_read_in_either_language_and_otherwise_named() -> None:
    for kinds in (ZoneKind, EquipmentKind, WindowKind):
        for kind in kinds:
            assert kind_of(kinds, kind.value, "kind") is kind_of(kinds, CHINESE[kind], "kind") is kind
    with pytest.raises(Invalid, match=r"kind = '冰相': write one of .*fridge \(冰箱\)"):
        kind_of(EquipmentKind, "冰相", "kind")
