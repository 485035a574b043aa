import tomllib
from pathlib import Path

import pytest

from coldchain.simulate.modbus import crc16
from core.wire.quality import Quality
from gateway_agent import profile
from gateway_agent.decode import measure
from gateway_agent.plan import blocks
from gateway_agent.profile import Profile, WrongProfile

FRAMES = Path(__file__).parents[1] / "fixtures" / "frames"
DEVICES = Path(profile.__file__).parents[1] / "config" / "devices"


@pytest.mark.parametrize("name", profile.names())
def test_a_profile_ships_with_its_page_and_recorded_frames(name: str) -> None:
    page = (DEVICES / f"{name}.md").read_text("utf-8")
    assert f'profile = "{name}"' in page, "the page shows how to bind it"
    for channel in profile.load(name).channels:
        assert f"`{channel.name}`" in page or "…" in page
    assert (FRAMES / f"{name}.toml").exists()


@pytest.mark.parametrize("name", profile.names())
def test_recorded_frames_mean_what_is_written_beside_them(name: str) -> None:
    known = profile.load(name)
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
        (("[-40, 80]", "[-40, 80]\nunit = 'C'"), "unknown field `unit`"),
        (("longest = 4", "longest = 1\n"), None),
        (('"s16"', '"f64"'), None),
        (("longest = 4", "longest = 3\n[x"), "not TOML"),
    ],
)
def test_a_wrong_profile_is_refused_with_file_key_and_value(change: tuple[str, str], said: str | None) -> None:
    text = GOOD.replace(*change)
    if said is None:
        assert Profile.read(text, "here.toml")
        return
    with pytest.raises(WrongProfile) as refused:
        Profile.read(text, "here.toml")
    assert str(refused.value).startswith("here.toml: ")
    assert said in str(refused.value)


def test_a_value_longer_than_a_block_is_refused() -> None:
    with pytest.raises(WrongProfile, match="takes 4 registers, over block"):
        Profile.read(GOOD.replace('"s16"', '"f64"').replace("longest = 4", "longest = 3"), "here.toml")


def test_a_channel_that_stands_twice_is_refused() -> None:
    twice = GOOD + GOOD[GOOD.index("[[channels]]") :]
    with pytest.raises(WrongProfile, match="used twice"):
        Profile.read(twice, "here.toml")


def test_an_unknown_profile_says_which_there_are() -> None:
    with pytest.raises(WrongProfile, match=f"no device profile 'xymd02'; there are: {', '.join(profile.names())}"):
        profile.load("xymd02")


def test_quality_bits_are_those_of_the_contract() -> None:
    assert [int(bit) for bit in Quality] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
