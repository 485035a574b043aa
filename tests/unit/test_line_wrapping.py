from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from coldchain.line_wrapping import wrap

PATH = "/var/lib/coldchain/somewhere/far/away/telemetry"


def test_words_and_paths_stay_whole_and_lines_hang_below_the_first() -> None:
    lines = wrap(f"→ Kept in {PATH}; a second run goes on. Ctrl-C ends.", 30, indent=2)
    assert lines == ["→ Kept in", f"  {PATH};", "  a second run goes on. Ctrl-C", "  ends."]


def test_chinese_fills_its_lines_and_no_line_begins_with_a_comma_or_ends_with_a_bracket() -> None:
    lines = wrap("→ 接收和报警照常，读数在接收日志里等待。请检查（那台机器）和网络", 20, indent=2)
    assert lines == ["→ 接收和报警照常，读", "  数在接收日志里等", "  待。请检查（那台机", "  器）和网络"]


@given(st.text("ab （，中文", max_size=80), st.integers(8, 40))
def test_nothing_is_lost_but_spaces(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in lines if cell_len(line.strip()) > 1 and " " in line.strip())
