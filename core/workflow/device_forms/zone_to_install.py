"""Zone of form 3: one that is registered already, or the name and kind of one that isn't."""

import msgspec

from core.devices.kinds_and_labels import ZoneKind
from core.ids import ZoneId


class ZoneToInstall(msgspec.Struct, frozen=True):
    """Known zone by its id, or a new one by the name of its equipment and its kind."""

    zone: ZoneId | None = None
    equipment: str = ""
    kind: ZoneKind | None = None

    @property
    def label(self) -> str:
        """Return its name within the keys of effects."""
        return f"{self.equipment}:{self.kind}" if self.zone is None else str(self.zone)
