"""Import file of a province, for the import benchmark: a tree of units with people, equipment, gateways and probes."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS = (
    *("type", "code", "number", "name", "kind", "level", "levels", "parent", "unit", "zones", "gateway", "equipment"),
    *("zone", "phone", "openid"),
)
ZONES_PER_UNIT = 20 / 3
"""20 000 zones in 3 000 units."""
COUNTIES = 30
"""Counties under each city, and clinics under each county."""


def rows(units: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a province with so many units, about 15 rows for each."""
    yield {"type": "unit", "code": "51", "name": "某省疾控中心", "kind": "cdc", "level": "province"}
    zones = 0
    for unit in range(1, units):
        code, parent, level = _place(unit)
        yield {"type": "unit", "code": code, "name": f"单位{unit}", "kind": "cdc" if level != "township" else "pov",
               "level": level, "parent": parent}  # fmt: skip
        for step in (1, 2, 3):
            yield {"type": "person", "unit": code, "name": f"人员{unit}-{step}", "levels": step,
                   "phone": f"138{unit:05}{step:03}", "openid": f"o{unit:06}_{step}"}  # fmt: skip
        yield {"type": "gateway", "number": f"G{unit:06}", "unit": code}
        while zones < unit * ZONES_PER_UNIT:
            number = zones // 2
            equipment = f"E{number:06}"
            yield {"type": "equipment", "code": equipment, "name": "冰箱", "kind": "fridge", "unit": code,
                   "zones": "refrigerated;frozen"}  # fmt: skip
            for zone in ("refrigerated", "frozen"):
                yield {"type": "probe", "code": f"{number:06}{zone[0].upper()}", "gateway": f"G{unit:06}",
                       "equipment": equipment, "zone": zone}  # fmt: skip
            zones += 2


def write(path: Path, units: int) -> int:
    """Write the file and return the number of its rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, COLUMNS)
        out.writeheader()
        count = 0
        for row in rows(units):
            out.writerow(row)
            count += 1
    return count


def _place(unit: int) -> tuple[str, str, str]:
    """Return code, parent's code and level of a unit: cities come first, then their counties, then clinics."""
    if unit <= COUNTIES:
        return f"C{unit:05}", "51", "city"
    if unit <= COUNTIES * (COUNTIES + 1):
        return f"X{unit:05}", f"C{(unit - 1) // COUNTIES:05}", "county"
    return f"510104{unit:04}", f"X{(unit - 1) // COUNTIES:05}", "township"
