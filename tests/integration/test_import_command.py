"""`coldchain import` as an operator runs it: in the locale's language, with progress, with its exit code."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coldchain.importing.progress import show_progress

COUNTY = "type,code,name,kind,level\nunit,610102,县疾控,cdc,county\n"


def coldchain(folder: Path, *words: str, locale: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coldchain", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={"PATH": os.environ["PATH"], "LC_ALL": locale, "PYTHONUTF8": "1"},
    )


@pytest.mark.parametrize(
    ("locale", "mistake", "done"),
    [
        ("zh_CN.UTF-8", "第 2 行：level = 'shire'：应为 national (国家), province (省)", "单位：新增 1"),
        ("C.UTF-8", "line 2: level = 'shire': write one of national (国家), province (省)", "1 unit added"),
    ],
)
def test_it_speaks_the_language_of_the_locale_and_ends_with_its_code(
    tmp_path: Path, locale: str, mistake: str, done: str
) -> None:
    assert coldchain(tmp_path, "init", locale=locale).returncode == 0
    file = tmp_path / "county.csv"
    file.write_bytes(COUNTY.replace("county", "shire").encode("gbk"))
    wrong = coldchain(tmp_path, "import", "county.csv", locale=locale)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith(mistake)
    file.write_bytes(COUNTY.encode("utf-16"))
    right = coldchain(tmp_path, "import", "county.csv", locale=locale)
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout.splitlines()[0] == done


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_and_a_line_now_and_then_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    terminal, log = Terminal(), io.StringIO()
    for out in (terminal, log):
        tell = show_progress(out)
        for done in range(500, 12_001, 500):
            tell(done, 12_000)
    assert terminal.getvalue().startswith("\r500 of 12000 rows\r1000 of 12000 rows\r")
    assert terminal.getvalue().endswith("\r12000 of 12000 rows\n")
    assert log.getvalue() == "5000 of 12000 rows\n10000 of 12000 rows\n"
