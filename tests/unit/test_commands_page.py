import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def told(*words: str, locale: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**environment, "LANG": locale},
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("locale", "name"), [("C.UTF-8", "commands.md"), ("zh_CN.UTF-8", "commands.zh-CN.md")])
def test_every_command_and_option_is_documented_in_both_languages(locale: str, name: str) -> None:
    fresh = told("-m", "coldchain.commands.page", locale=locale).stdout
    renew = f"LANG={locale} python -m coldchain.commands.page > docs/{name}"
    assert (ROOT / "docs" / name).read_text("utf-8") == fresh, f"renew it: {renew}"


def test_every_help_is_chinese_in_a_chinese_locale() -> None:
    page = (ROOT / "docs" / "commands.zh-CN.md").read_text("utf-8")
    helps = [line for line in page.splitlines() if line.startswith("* `")]
    assert len(helps) > 50
    assert [line for line in helps if not any("\u4e00" <= sign <= "\u9fff" for sign in line)] == []


USAGE = [
    ("import --foo x.csv", "No such option: --foo", "没有这个选项：--foo"),
    ("status --jsn", "No such option: --jsn (Possible options: --json)", "--jsn （可用的有：--json）"),
    ("imort x.csv", "No such command 'imort'. Did you mean 'import'?", "'imort'。 您是不是想用 'import'？"),
    ("user ad x", "No such command 'ad'. Did you mean 'add'?", "没有这个命令：'ad'。 您是不是想用 'add'？"),
    ("import", "Missing argument 'file'.", "缺少参数 'file'。"),
    ("user add x", "Missing option '--unit'.", "缺少选项 '--unit'。"),
    ("import no.csv", "file 'no.csv' does not exist.", "'file' 的值不对：文件或目录 'no.csv' 不存在。"),
    ("import docs", "file 'docs' is a directory.", "'file' 的值不对：'docs' 是目录，不是文件。"),
    ("check now", "Got unexpected extra argument(s) (now)", "多余的参数：now"),
    ("up --config", "Option '--config' requires an argument.", "选项 '--config' 后面要有值。"),
    ("status --json=1", "Option '--json' does not take a value.", "选项 '--json' 不带值。"),
    (
        "demo --speed 700",
        "Invalid value for '--speed': Input should be less than or equal to 600",
        "'--speed' 的值不对：最大为 600",
    ),
    ("demo --speed fast", "Input should be a valid number", "应为数字"),
]  # fmt: skip
EACH = """
import contextlib, io, json, sys
from coldchain.cli import main
for words in json.loads(sys.argv.pop()):
    out, err = io.StringIO(), io.StringIO()
    sys.argv[1:] = words
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
"""Runs each command line as the command does, in one process, since each import takes a second."""


@pytest.mark.parametrize(
    ("locale", "place", "hint"), [("C.UTF-8", 1, "--help explains it"), ("zh_CN.UTF-8", 2, "说明见 ")]
)
def test_wrong_usage_is_refused_in_one_line_with_where_to_read_on(locale: str, place: int, hint: str) -> None:
    lines = json.dumps([case[0].split() for case in USAGE])
    answers = told("-c", EACH, lines, locale=locale).stdout.splitlines()
    assert len(answers) == len(USAGE)
    for case, answer in zip(USAGE, map(json.loads, answers), strict=True):
        code, out, err = answer
        assert (code, out) == (2, ""), case
        first, second = err.splitlines()
        assert first.startswith("coldchain: ")
        assert case[place] in first
        assert hint in second


@pytest.mark.parametrize(
    ("locale", "no_folder", "no_terminal"),
    [
        (
            "C.UTF-8",
            "no coldchain.toml here",
            "no terminal to ask for the password on; hand it over with --password-stdin",
        ),
        pytest.param(
            *("zh_CN.UTF-8", "没有 coldchain.toml：", "没有终端可供输入密码；请用 --password-stdin"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_password_is_asked_for_last_and_only_on_a_terminal(
    tmp_path: Path, locale: str, no_folder: str, no_terminal: str
) -> None:
    asked = ("-m", "coldchain", "user", "password", "li")
    answer = told(*asked, "--config", str(tmp_path / "none.toml"), locale=locale)
    assert (answer.returncode, "none.toml" in answer.stderr) == (2, True)
    assert no_folder in told(*asked, locale=locale).stderr
    (tmp_path / "coldchain.toml").write_text("")
    answer = told(*asked, "--config", str(tmp_path / "coldchain.toml"), locale=locale)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert no_terminal in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_without_a_word_the_help_is_shown_and_no_empty_error() -> None:
    answer = told("-m", "coldchain", locale="C.UTF-8")
    assert "coldchain init" in answer.stdout
    assert (answer.returncode, answer.stderr) == (2, "")
