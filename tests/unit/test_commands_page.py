import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
RENEW = "typer coldchain.cli utils docs --name coldchain --output docs/commands.md"


def test_every_command_and_option_is_documented(tmp_path: Path) -> None:
    fresh = tmp_path / "commands.md"
    typer = Path(sys.executable).with_name("typer")
    subprocess.run([typer, *RENEW.split()[1:-1], fresh], cwd=PAGE.parents[1], check=True, capture_output=True)
    assert PAGE.read_text("utf-8") == fresh.read_text("utf-8"), f"renew it: {RENEW}"
