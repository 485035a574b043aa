"""Device profiles: the registers of a kind of device, and how they are read.

A profile is a TOML file. It ships in config/devices, with a page of the same name and recorded frames in
tests/fixtures/frames; or it is a user's own, in the folder `devices` beside coldchain.toml. docs/device-profiles.md
explains every key. Adding a device needs no change of code. tests/unit/test_device_profile.py tries to break it.
"""

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from config.catalogue import terminal_language
from config.setting_mistakes import wrong_types
from config.text_file import UnreadableFile, decode, parse_toml
from gateway_agent.texts import say

Function = Literal[1, 2, 3, 4]
"""Modbus function code: 1 coils, 2 discrete inputs, 3 holding registers, 4 input registers."""
RawType = Literal["u16", "s16", "u32", "s32", "f32", "f64", "bit"]
ByteOrder = Literal["ABCD", "BADC", "CDAB", "DCBA"]
"""Byte order of a value, A the highest byte: BADC swaps the bytes in each register, CDAB swaps the registers."""
Quantity = Literal["t", "h", "door", "mains", "batt"]

REGISTERS: dict[RawType, int] = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2, "f64": 4, "bit": 1}
COILS = (1, 2)
MOST_REGISTERS = 125
MOST_COILS = 2000

RegisterAddress = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0, le=10)]


class InvalidDeviceProfile(Exception):
    """Profile that can't be used. The text names file, key and value, and says what would be right."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table of the file. An unknown key in it is refused."""


class LineDefaults(_Table, frozen=True, kw_only=True):
    """Serial parameters that the device has from the factory. The settings of a bus override them."""

    baud: Annotated[int, Meta(ge=300, le=1_000_000)] = 9600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Annotated[int, Meta(ge=1, le=2)] = 1


class Timing(_Table, frozen=True, kw_only=True):
    """Real seconds that the device needs."""

    timeout: Seconds
    """From the end of the request to the first byte of the reply; the time on the wire is added."""
    quiet_after_timeout: Annotated[float, Meta(ge=0, le=10)]
    """Silence on the bus after a time-out. It must be longer than the latest possible answer, or that answer is taken
    for the reply to the next request."""
    guard: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Silence between two frames; it is at least 3.5 characters."""


class BlockLimits(_Table, frozen=True, kw_only=True):
    """Limits of one read request."""

    longest: Annotated[int, Meta(ge=1, le=MOST_COILS)]
    gap: Annotated[int, Meta(ge=0, le=MOST_REGISTERS)] = 0
    """Unneeded registers that may be read to save a request; 0 if the device refuses to read them."""


class StatusBit(_Table, frozen=True, kw_only=True):
    """Register with the state of the sensor: any set bit of `mask` means open or short."""

    function: Function
    address: RegisterAddress
    mask: Annotated[int, Meta(ge=1, le=0xFFFF)] = 1


class ScaleSelector(_Table, frozen=True, kw_only=True):
    """Register whose content selects the scale; `scales` maps the content, as text, to the scale."""

    function: Literal[3, 4]
    address: RegisterAddress
    scales: Annotated[dict[str, float], Meta(min_length=1)]


class ProfileChannel(_Table, frozen=True, kw_only=True):
    """Value of the device: raw × scale + offset."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,16}$")]
    quantity: Quantity
    function: Function
    address: RegisterAddress
    type: RawType
    order: ByteOrder = "ABCD"
    bit: Annotated[int, Meta(ge=0, le=15)] = 0
    """Bit of a register of type `bit`; 0 is the lowest."""
    scale: float = 1.0
    offset: float = 0.0
    errors: list[int] = []
    """Raw values that mean an open or shorted sensor, as a number or as the unsigned content of the registers."""
    valid: tuple[float, float]
    """Range that the sensor can physically measure, ends included."""
    status: StatusBit | None = None
    selector: ScaleSelector | None = None

    @property
    def span(self) -> int:
        """Registers (or coils) that the value takes."""
        return REGISTERS[self.type]


class DeviceProfile(_Table, frozen=True, kw_only=True):
    """Profile of a kind of device."""

    device: str
    """Name that its maker gives it."""
    line: LineDefaults = LineDefaults()
    timing: Timing
    block: BlockLimits
    channels: Annotated[list[ProfileChannel], Meta(min_length=1)]

    def channel(self, name: str) -> ProfileChannel | None:
        """Return the channel of this name, None if there is none."""
        return next((channel for channel in self.channels if channel.name == name), None)

    @classmethod
    def read(cls, text: str, source: str) -> Self:
        """Parse the text of a profile; `source` is its name in errors.

        Raises: InvalidDeviceProfile, with every mistake in a line of its own.
        """
        try:
            raw = parse_toml(text, source)
        except UnreadableFile as error:
            raise InvalidDeviceProfile(error.text(terminal_language())) from None
        mistakes, _ = wrong_types(raw, cls)
        if not mistakes:
            profile = msgspec.convert(raw, cls)
            mistakes = list(_contradictions(profile))
            if not mistakes:
                return profile
        raise InvalidDeviceProfile("\n".join(f"{source}: {mistake}" for mistake in mistakes))


class DeviceProfiles:
    """Device profiles by name: those in the user's folder, and those that ship.

    A profile in the user's folder overrides a shipped one of the same name. Each is read once.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._own_folder = folder
        self._loaded: dict[str, DeviceProfile] = {}

    def load(self, name: str) -> DeviceProfile:
        """Return a profile.

        Raises: InvalidDeviceProfile, also if there is none of this name; the text lists the existing ones.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def names(self) -> list[str]:
        """Return the names of all profiles."""
        return sorted({*self.own(), *_names_in(_SHIPPED)})

    def own(self) -> list[str]:
        """Return the names of the profiles in the user's folder."""
        return _names_in(self._own_folder) if self._own_folder and self._own_folder.is_dir() else []

    def _load(self, name: str) -> DeviceProfile:
        own = self._own_folder / f"{name}.toml" if self._own_folder else None
        if own and own.is_file():
            try:
                return DeviceProfile.read(decode(own.read_bytes(), str(own)), str(own))
            except UnreadableFile as error:
                raise InvalidDeviceProfile(error.text(terminal_language())) from None
            except OSError as error:
                msg = f"{own}: {error.strerror}"
                raise InvalidDeviceProfile(msg) from None
        shipped = _SHIPPED / f"{name}.toml"
        if not shipped.is_file():
            raise InvalidDeviceProfile(say("profile.unknown", name=repr(name), names=", ".join(self.names())))
        return DeviceProfile.read(shipped.read_text("utf-8"), f"config/devices/{name}.toml")


_SHIPPED = resources.files("config") / "devices"
_shipped = DeviceProfiles()


def load(name: str) -> DeviceProfile:
    """Return a shipped profile.

    Raises: InvalidDeviceProfile.
    """
    return _shipped.load(name)


def names() -> list[str]:
    """Return the names of the shipped profiles."""
    return _shipped.names()


def _names_in(folder: Traversable) -> list[str]:
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def _contradictions(profile: DeviceProfile) -> Iterator[str]:
    """Yield mistakes that types alone can't find."""
    names: set[str] = set()
    for index, channel in enumerate(profile.channels):
        where = f"channels[{index}]"
        if channel.name in names:
            yield say("profile.twice", where=where, name=repr(channel.name))
        names.add(channel.name)
        if channel.function in COILS and channel.type != "bit":
            yield say("profile.bits", where=where, type=repr(channel.type))
        if channel.span > profile.block.longest:
            yield say("profile.too_long", where=where, type=repr(channel.type), span=channel.span)
        if channel.valid[0] >= channel.valid[1]:
            yield say("profile.valid", where=where, valid=list(channel.valid))
        if channel.function not in COILS and profile.block.longest > MOST_REGISTERS:
            yield say("profile.longest", longest=profile.block.longest, most=MOST_REGISTERS)
        for key in channel.selector.scales if channel.selector else ():
            if not key.isdecimal():
                yield say("profile.scales", where=where, key=repr(key))
