"""Strict reading of text files: what is read is what was written, and all else is refused with its line."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.characters import forbidden_character
from config.text_file import UnreadableFile, decode, parse_toml, read_text

CHINESE = "type,name\nunit,县疾控中心\nunit,城关镇卫生院\nperson,王芳\n"
NAMES = st.text("王芳李建国赵敏张伟县疾控中心城关镇卫生院冷藏冷冻冰箱", min_size=1, max_size=12)


def attempt(raw: bytes) -> str | UnreadableFile:
    try:
        return decode(raw, "x")
    except UnreadableFile as error:
        return error


def refused(raw: bytes) -> str:
    with pytest.raises(UnreadableFile) as error:
        decode(raw, "file.csv")
    return str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb18030"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_what_windows_programs_save_is_read(encoding: str, line_end: str) -> None:
    assert decode(CHINESE.replace("\n", line_end).encode(encoding), "file.csv") == CHINESE


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_whether_or_not_it_is_marked(encoding: str) -> None:
    assert decode(CHINESE.encode(encoding), "file.csv") == CHINESE
    assert decode("\ufeff".encode(encoding) + CHINESE.encode(encoding), "file.csv") == CHINESE


def test_the_degree_sign_of_a_western_logger_is_read() -> None:
    assert decode("Time,Temp (°C)\n".encode("cp1252"), "file.csv") == "Time,Temp (°C)\n"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        # One byte of another encoding in a file that is UTF-8: the rest must not become other letters.
        ("县疾控\n王芳".encode() + b"\xe9\nx\n", "line 2: the byte 0xE9 is neither UTF-8 nor GB 18030"),
        # A line in GBK that a second program appended.
        (CHINESE.encode() + "unit,第二医院\n".encode("gbk"), "line 5: the byte 0x"),
        # Half a Chinese letter at the end.
        (CHINESE.encode("gbk")[:-2], "line 4: the byte 0x"),
        ("type,name\nperson,伟\n".encode("gbk"), "may be UTF-8 or GBK; save it as UTF-8 with its mark"),
        # Latin letters with accents.
        ("a,b\nTempérature é,1\nêtre,2\n".encode("latin-1"), "line 2: the byte 0xE9"),
        (b"a\nb\x00c\n", "line 2: holds a zero byte: it is no text file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no text file"),
        (b"\xff\xfea\x00\n\x00\x00\xd8a\x00", "line 2: the byte 0x00 isn't UTF-16-LE"),
        (b"\xff\xfe\x00\x00a\x00\x00\x00", "UTF-32 is not read"),
        ("a\nb\u200bc\n".encode(), "line 2: character 2 is U+200B ZERO WIDTH SPACE"),
        (b"a\nb\x07", "line 2: character 2 is U+0007"),
        ("张\ufffd".encode(), "line 1: character 2 is U+FFFD REPLACEMENT CHARACTER"),
        ("\u202e".encode("utf-16"), "line 1: character 1 is U+202E"),
    ],
)
def test_what_does_not_decode_as_a_whole_is_refused_with_its_line(raw: bytes, told: str) -> None:
    assert told in refused(raw)


def test_signs_of_other_languages_in_utf_8_are_not_taken_for_gbk() -> None:
    for text in ("4.5 °C\n", "Zoë\n", "ئۇيغۇر\n", "µ½\n"):
        assert decode(text.encode(), "x") == text


def test_every_invisible_character_is_told_at_once() -> None:
    assert refused("a\u200b\nb\n\u200dc".encode()).count("\n") == 1


@given(st.lists(NAMES, min_size=2, max_size=8), st.data())
def test_a_damaged_byte_never_turns_chinese_into_other_letters(names: list[str], data: st.DataObject) -> None:
    raw = "\n".join(names).encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0x80, 0xFF))
    damaged = data.draw(st.sampled_from([raw[:at] + raw[at + 1 :], raw[:at] + bytes([byte]) + raw[at:]]))
    found = attempt(damaged)
    if isinstance(found, UnreadableFile):
        assert found.problems[0].line
    else:
        assert found == damaged.decode("utf-8")


@given(st.lists(NAMES, min_size=1, max_size=20))
def test_chinese_in_gbk_is_read_as_it_was_written(names: list[str]) -> None:
    """Or refused where it is UTF-8 as well, as 伟 alone is ΰ."""
    text = "\n".join(names)
    found = attempt(text.encode("gb18030"))
    assert isinstance(found, UnreadableFile) or found == text


@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    found = attempt(raw)
    if isinstance(found, UnreadableFile):
        assert found.problems
        assert found.text("zh-CN")
    else:
        assert forbidden_character(found, several_lines=True) is None
        assert "\r" not in found


@given(
    st.text(max_size=60) | st.sampled_from(["a = " + "[" * 5000, "a = " + "9" * 5000, "a = 2026-02-31", "a." * 5000])
)
def test_any_text_is_toml_or_refused(text: str) -> None:
    with suppress(UnreadableFile):
        parse_toml(text, "x.toml")


def test_what_is_wrong_in_toml_is_told_with_its_line() -> None:
    with pytest.raises(UnreadableFile, match=r"x.toml: line 2: not TOML: Invalid value"):
        parse_toml("a = 1\nb = \n", "x.toml")


def test_a_file_is_called_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "county.csv"
    file.write_bytes(b"\x00")
    with pytest.raises(UnreadableFile, match=r"county.csv: line 1: holds a zero byte") as error:
        read_text(file)
    assert error.value.text("zh-CN") == "county.csv：第 1 行：含有零字节，不是文本文件，请导出为 CSV 或文本"
