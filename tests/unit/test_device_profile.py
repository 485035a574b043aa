import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from coldchain.simulate.modbus import crc16
from core.wire.quality import Quality
from gateway_agent import device_profile
from gateway_agent.device_profile import DeviceProfile, DeviceProfiles, InvalidDeviceProfile
from gateway_agent.read_plan import blocks
from gateway_agent.register_decoder import measure

FRAMES = Path(__file__).parents[1] / "fixtures" / "frames"
DEVICES = Path(device_profile.__file__).parents[1] / "config" / "devices"


@pytest.mark.parametrize("name", device_profile.names())
def test_a_profile_ships_with_its_page_and_recorded_frames(name: str) -> None:
    page = (DEVICES / f"{name}.md").read_text("utf-8")
    assert f'profile = "{name}"' in page, "the page shows how to bind it"
    for channel in device_profile.load(name).channels:
        assert f"`{channel.name}`" in page or "…" in page
    assert (FRAMES / f"{name}.toml").exists()


@pytest.mark.parametrize("name", device_profile.names())
def test_recorded_frames_mean_what_is_written_beside_them(name: str) -> None:
    known = device_profile.load(name)
    [read] = blocks(known.channels, known.block)
    for frame in tomllib.loads((FRAMES / f"{name}.toml").read_text("utf-8"))["frames"]:
        request, reply = bytes.fromhex(frame["request"]), bytes.fromhex(frame["reply"])
        assert crc16(request[:-2]) == request[-2:], frame["source"]
        assert crc16(reply[:-2]) == reply[-2:], frame["source"]
        assert request[1:6] == bytes([read.function, 0, read.address, 0, read.count])
        words = {
            (read.function, read.address + step): int.from_bytes(reply[3 + 2 * step : 5 + 2 * step], "big")
            for step in range(read.count)
        }
        measured = {channel.name: measure(channel, words) for channel in known.channels}
        assert {name: value for name, (value, q) in measured.items() if not q} == frame["values"]
        assert {name: int(q) for name, (_, q) in measured.items() if q} == frame.get("q", {})


GOOD = """
device = "X"
[timing]
timeout = 0.3
quiet_after_timeout = 0.5
[block]
longest = 4
[[channels]]
name = "t"
quantity = "t"
function = 3
address = 0
type = "s16"
valid = [-40, 80]
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"s16"', '"s17"'), "channels[0].type = 's17'"),
        (("address = 0", "address = 65536"), "channels[0].address = 65536"),
        (("function = 3", "function = 5"), "channels[0].function = 5"),
        (("timeout = 0.3", "timeout = 0"), "timing.timeout = 0"),
        (("longest = 4", "longest = 126"), "block.longest = 126: Modbus allows 125"),
        (("[-40, 80]", "[80, -40]"), "channels[0].valid = [80.0, -40.0]: write [lowest, highest]"),
        (('type = "s16"', 'type = "f64"\norder = "ACBD"'), "channels[0].order = 'ACBD'"),
        (("function = 3", "function = 1"), "channels[0].type = 's16': functions 1 and 2 read bits"),
        (("[-40, 80]", "[-40, 80]\nunit = 'C'"), "channels[0].unit: there is no such setting"),
        (("longest = 4", "longest = 1\n"), None),
        (('"s16"', '"f64"'), None),
        (("longest = 4", "longest = 3\n[x"), "not TOML"),
    ],
)
def test_a_wrong_profile_is_refused_with_file_key_and_value(change: tuple[str, str], said: str | None) -> None:
    text = GOOD.replace(*change)
    if said is None:
        assert DeviceProfile.read(text, "here.toml")
        return
    with pytest.raises(InvalidDeviceProfile) as refused:
        DeviceProfile.read(text, "here.toml")
    assert str(refused.value).startswith("here.toml: ")
    assert said in str(refused.value)


def test_all_mistakes_of_a_profile_are_told_at_once() -> None:
    wrong = GOOD.replace('"s16"', '"s17"').replace("[-40, 80]", "[-40]").replace("timeout = 0.3", "timeout = 0")
    with pytest.raises(InvalidDeviceProfile) as refused:
        DeviceProfile.read(wrong, "here.toml")
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    for line, key in zip(lines, ("timing.timeout", "channels[0].type", "channels[0].valid"), strict=True):
        assert line.startswith(f"here.toml: {key} = ")


def test_a_profile_of_ones_own_is_read_from_its_folder_and_stands_in_place_of_a_shipped_one(tmp_path: Path) -> None:
    profiles = DeviceProfiles(tmp_path / "devices")
    assert (profiles.own(), profiles.names()) == ([], device_profile.names()), "no folder is no mistake"
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "x-1.toml").write_text(GOOD)
    (tmp_path / "devices" / "xy-md02.toml").write_text(GOOD.replace('"X"', '"another one"'))
    (tmp_path / "devices" / "notes.md").touch()
    profiles = DeviceProfiles(tmp_path / "devices")
    assert profiles.own() == ["x-1", "xy-md02"]
    assert set(profiles.names()) == {*device_profile.names(), "x-1"}
    assert profiles.load("x-1").device == "X"
    assert profiles.load("xy-md02").device == "another one"
    assert profiles.load("r4dcb08") == device_profile.load("r4dcb08")
    with pytest.raises(InvalidDeviceProfile, match=r"there are: .*x-1"):
        profiles.load("x-2")


def test_a_wrong_profile_of_ones_own_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "x-1.toml").write_text(GOOD.replace("function = 3", "function = 5"))
    (tmp_path / "x-2.toml").write_bytes(GOOD.encode() + b"# \xff")
    (tmp_path / "x-3.toml").mkdir()
    for name, said in (("x-1", "channels[0].function = 5"), ("x-2", "x-2.toml"), ("x-3", "no device profile")):
        with pytest.raises(InvalidDeviceProfile) as refused:
            DeviceProfiles(tmp_path).load(name)
        assert said in str(refused.value)


def test_the_page_of_device_profiles_explains_every_key_and_its_example_is_a_good_one() -> None:
    text = (Path(device_profile.__file__).parents[1] / "docs" / "device-profiles.md").read_text("utf-8")
    tables: dict[str, type[msgspec.Struct]] = {
        "": DeviceProfile,
        "line": device_profile.LineDefaults,
        "timing": device_profile.Timing,
        "block": device_profile.BlockLimits,
        "channels": device_profile.ProfileChannel,
        "channels.status": device_profile.StatusBit,
        "channels.selector": device_profile.ScaleSelector,
    }
    for table, kind in tables.items():
        for field in msgspec.structs.fields(kind):
            full = f"{table}.{field.encode_name}" if table else field.encode_name
            assert full in tables or f"| `{full}` |" in text, f"docs/device-profiles.md doesn't explain {full}"
    (example,) = re.findall(r"^```toml profile\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(DeviceProfile.read(example, "example").channels) == 3


def test_a_value_longer_than_a_block_is_refused() -> None:
    with pytest.raises(InvalidDeviceProfile, match="takes 4 registers, over block"):
        DeviceProfile.read(GOOD.replace('"s16"', '"f64"').replace("longest = 4", "longest = 3"), "here.toml")


def test_a_channel_that_stands_twice_is_refused() -> None:
    twice = GOOD + GOOD[GOOD.index("[[channels]]") :]
    with pytest.raises(InvalidDeviceProfile, match="used twice"):
        DeviceProfile.read(twice, "here.toml")


def test_an_unknown_profile_says_which_there_are() -> None:
    with pytest.raises(
        InvalidDeviceProfile, match=f"no device profile 'xymd02'; there are: {', '.join(device_profile.names())}"
    ):
        device_profile.load("xymd02")


def test_quality_bits_are_those_of_the_contract() -> None:
    assert [int(bit) for bit in Quality] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
