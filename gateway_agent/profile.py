"""What a device profile says: where a device keeps its values and how they are read.

A profile is a TOML file in config/devices with a page of the same name beside it. Adding a device is adding both and a
recorded frame in tests/fixtures/frames; no code changes.
"""

import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

Function = Literal[1, 2, 3, 4]
"""Modbus function code: 1 coils, 2 discrete inputs, 3 holding registers, 4 input registers."""
RawType = Literal["u16", "s16", "u32", "s32", "f32", "f64", "bit"]
Order = Literal["ABCD", "BADC", "CDAB", "DCBA"]
"""Where the bytes of a value travel, A the highest: BADC swaps in each register, CDAB swaps the registers."""
Quantity = Literal["t", "h", "door", "mains", "batt"]

REGISTERS: dict[RawType, int] = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2, "f64": 4, "bit": 1}
COILS = (1, 2)
MOST_REGISTERS = 125
MOST_COILS = 2000

RegisterAddress = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0, le=10)]


class WrongProfile(Exception):
    """A profile that can't be used. Its text names file, key and value, and says what would be right."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; an unknown key in it is refused."""


class Line(_Table, frozen=True, kw_only=True):
    """How the device leaves the factory; a bus may say otherwise."""

    baud: Annotated[int, Meta(ge=300, le=1_000_000)] = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Annotated[int, Meta(ge=1, le=2)] = 1


class Timing(_Table, frozen=True, kw_only=True):
    """Real seconds that the device needs."""

    timeout: Seconds
    """From the end of the request to the reply's first byte; time on the wire is added by baud rate."""
    quiet_after_timeout: Annotated[float, Meta(ge=0, le=10)]
    """Silence kept on the bus after a time-out, longer than the latest answer: else it is taken for the next one's."""
    guard: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Silence between two frames; 3.5 characters are kept anyway."""


class Block(_Table, frozen=True, kw_only=True):
    """How much may be read at once."""

    longest: Annotated[int, Meta(ge=1, le=MOST_COILS)]
    gap: Annotated[int, Meta(ge=0, le=MOST_REGISTERS)] = 0
    """Unwanted registers that may be read along to save a request; 0 where reading them is refused."""


class StatusBit(_Table, frozen=True, kw_only=True):
    """A register that says whether the sensor is sound: any bit of `mask` set means open or short."""

    function: Function
    address: RegisterAddress
    mask: Annotated[int, Meta(ge=1, le=0xFFFF)] = 1


class ScaleSelector(_Table, frozen=True, kw_only=True):
    """A register whose content decides the scale: content (as text) = scale."""

    function: Literal[3, 4]
    address: RegisterAddress
    scales: Annotated[dict[str, float], Meta(min_length=1)]


class Channel(_Table, frozen=True, kw_only=True):
    """One value of the device: value = raw × scale + offset."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,16}$")]
    quantity: Quantity
    function: Function
    address: RegisterAddress
    type: RawType
    order: Order = "ABCD"
    bit: Annotated[int, Meta(ge=0, le=15)] = 0
    """Of a register read as `bit`: 0 is the lowest."""
    scale: float = 1.0
    offset: float = 0.0
    errors: list[int] = []
    """Raw values, as the number or as the bare register, that mean an open or shorted sensor."""
    valid: tuple[float, float]
    """What the sensor can physically measure, ends included."""
    status: StatusBit | None = None
    selector: ScaleSelector | None = None

    @property
    def span(self) -> int:
        """Registers (or coils) that the value takes."""
        return REGISTERS[self.type]


class Profile(_Table, frozen=True, kw_only=True):
    """A kind of device."""

    device: str
    """Maker's name of it."""
    line: Line = Line()
    timing: Timing
    block: Block
    channels: Annotated[list[Channel], Meta(min_length=1)]

    def channel(self, name: str) -> Channel | None:
        """Return a channel by its name."""
        return next((channel for channel in self.channels if channel.name == name), None)

    @classmethod
    def read(cls, text: str, source: str) -> Self:
        """Read the text of a profile; `source` is what errors call it.

        Raises: WrongProfile.
        """
        try:
            profile = msgspec.convert(tomllib.loads(text), cls)
        except tomllib.TOMLDecodeError as error:
            msg = f"{source}: not TOML: {error}"
            raise WrongProfile(msg) from None
        except msgspec.ValidationError as error:
            raise WrongProfile(_explain(tomllib.loads(text), source, str(error))) from None
        for problem in _contradictions(profile):
            msg = f"{source}: {problem}"
            raise WrongProfile(msg)
        return profile


@cache
def load(name: str) -> Profile:
    """Read a profile that ships with us.

    Raises: WrongProfile, also when there is none of that name; the text lists those that there are.
    """
    folder = resources.files("config") / "devices"
    file = folder / f"{name}.toml"
    if not file.is_file():
        msg = f"no device profile {name!r}; there are: {', '.join(names())}"
        raise WrongProfile(msg)
    return Profile.read(file.read_text("utf-8"), f"config/devices/{name}.toml")


def names() -> list[str]:
    """Return the names of the profiles that ship with us."""
    folder = resources.files("config") / "devices"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def _contradictions(profile: Profile) -> list[str]:
    """Return what the types alone can't refuse."""
    found = []
    seen: set[str] = set()
    for index, channel in enumerate(profile.channels):
        where = f"channels[{index}]"
        if channel.name in seen:
            found.append(f"{where}.name = {channel.name!r}: used twice; each channel needs its own")
        seen.add(channel.name)
        if (channel.function in COILS) and channel.type != "bit":
            found.append(f"{where}.type = {channel.type!r}: functions 1 and 2 read bits; write 'bit'")
        if channel.span > profile.block.longest:
            found.append(f"{where}.type = {channel.type!r}: takes {channel.span} registers, over block.longest")
        if channel.valid[0] >= channel.valid[1]:
            found.append(f"{where}.valid = {list(channel.valid)!r}: write [lowest, highest]")
        if channel.function not in COILS and profile.block.longest > MOST_REGISTERS:
            found.append(f"block.longest = {profile.block.longest}: Modbus allows {MOST_REGISTERS} registers")
        found.extend(
            f"{where}.selector.scales = {key!r}: keys are the register's content, such as '0'"
            for key in (channel.selector.scales if channel.selector else ())
            if not key.isdecimal()
        )
    return found


def _explain(raw: dict[str, object], source: str, problem: str) -> str:
    what, _, path = problem.partition(" - at `$")
    shown = path.rstrip("`").lstrip(".")
    value: object = raw
    for key in shown.replace("]", "").replace("[", ".").split(".") if shown else ():
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal():
            value = value[int(key)]
    if shown and not isinstance(value, dict | list):
        return f"{source}: {shown} = {value!r}: {what}"
    return f"{source}: {shown or 'the file'}: {what}"
