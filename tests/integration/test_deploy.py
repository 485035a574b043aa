"""Files and pages of deploy/, held against the program and the tools that read it. The whole walk: tests/deploy."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from coldchain.cli import app
from config.settings_loader import load_settings
from tests.deploy.page import MACHINES, PAGE, blocks

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGES = (PAGE, DEPLOY / "compose" / "README.md")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CA = DEPLOY / "tls" / "ca"
MOST_EXPOSED = 20
"""Tenths of what `systemd-analyze security` gives at most; 9.6 is a service with nothing said."""


def tool(name: str, package: str) -> str:
    """Where a program is; without it the test is skipped with one line, and fails in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        missing = f"no {name}: on Debian, apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def commands() -> Iterator[tuple[str, str]]:
    """Every `coldchain …` that a page, a unit or the compose file runs, with where it stands."""
    for page in PAGES:
        for block in blocks(page.read_text("utf-8")):
            joined = re.sub(r"\\\n\s*", " ", block.text)
            for line in joined.splitlines():
                for said in re.findall(r"^(?:docker-compose exec -T api-1 coldchain|coldchain) ([a-z-].*)$", line):
                    yield f"{page.name}:{block.line}", re.split(r" [<>|]", said)[0]
    for unit in UNITS:
        for said in re.findall(r"^ExecStart=\S+/coldchain (.*)$", unit.read_text("utf-8"), re.MULTILINE):
            yield unit.name, said.replace("%i", "8081" if "api" in unit.name else "00-7f")
    for said in re.findall(r"^    command: \[((?:collector|writer|alerting|api).*)\]$", _compose(), re.MULTILINE):
        yield "compose.yaml", said.replace(",", " ")
    for said in re.findall(r"\bcoldchain ((?:init|telemetry|broker-passwords)\b[a-z /]*)", _init()):
        yield "init.sh", said


def _compose() -> str:
    return (DEPLOY / "compose" / "compose.yaml").read_text("utf-8")


def _init() -> str:
    return (DEPLOY / "compose" / "init.sh").read_text("utf-8")


def test_every_command_that_is_named_exists_with_its_options() -> None:
    found = list(commands())
    for where, said in found:
        command, words = typer.main.get_command(app), shlex.split(said)
        while isinstance(command, TyperGroup) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--version", "--help"}
        assert not isinstance(command, TyperGroup) or words, f"{where}: coldchain {said}"
        assert not (isinstance(command, TyperGroup) and words[0][0] != "-"), (
            f"{where}: no such command: coldchain {said}"
        )
        unknown = {word for word in words if word.startswith("-")} - known
        assert not unknown, f"{where}: coldchain {said}: no option {unknown}"
    assert len(found) >= 25  # the patterns above find something at all
    assert {where.partition(":")[0] for where, _ in found} >= {"deploy.md", "README.md", "compose.yaml", "init.sh"}


def test_what_units_and_containers_set_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "coldchain.toml").write_text("")
    for where, said in commands():
        words = shlex.split(said)
        changed = [word for option, word in pairwise(words) if option == "--set"]
        load_settings(tmp_path / "coldchain.toml", changed)
        if where.startswith(("coldchain-collector", "coldchain-writer", "coldchain-alerting", "coldchain-api")):
            assert changed, where


def test_the_settings_on_the_pages_are_good_ones(tmp_path: Path) -> None:
    heredocs = re.findall(
        r"^cat >(>?) \S+/coldchain\.toml <<'END'\n(.*?)^END$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(heredocs) == 3
    server, wechat, edge = (text for _, text in heredocs)
    for text in (server + wechat, edge, (DEPLOY / "compose" / "coldchain.toml").read_text("utf-8")):
        (tmp_path / "coldchain.toml").write_text(text)
        assert not load_settings(tmp_path / "coldchain.toml").broker.embedded


def test_every_block_is_for_a_machine_and_is_a_script() -> None:
    machines = set()
    for page in PAGES:
        for block in blocks(page.read_text("utf-8")):
            machines.add(block.machine)
            checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
            assert not checked.returncode, f"{page.name}:{block.line}: {checked.stderr}"
    assert machines == {*MACHINES, "carry", "not-tried"}


def test_a_file_of_deploy_that_a_page_names_is_there() -> None:
    named = re.findall(r"/opt/coldchain/(deploy/[\w./@-]*\w)", PAGE.read_text("utf-8"))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_chinese_page_leads_to_every_part_in_order() -> None:
    headings = re.findall(r"^## (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    parts = [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    led = re.findall(r"\(deploy\.md#([a-z0-9-]+)\)", PAGE.with_suffix(".zh-CN.md").read_text("utf-8"))
    assert led == parts[:-1]  # the last says how the page is tried


def test_all_services_are_confined_alike() -> None:
    confined = []
    for unit in UNITS:
        text = unit.read_text("utf-8")
        assert not re.search(r"(?i)password=|token=|secret=", text), unit.name
        for must in ("Restart=always", "StartLimitIntervalSec=0", "User=coldchain", "StateDirectoryMode=0700"):
            assert f"\n{must}\n" in text, f"{unit.name}: {must}"
        confined.append(re.search(r"^User=coldchain\n.*^SystemCallErrorNumber=EPERM$", text, re.MULTILINE | re.DOTALL))
    assert len({match and match[0] for match in confined}) == 1, "what they share is said in each, and differs"


def test_systemd_takes_the_units_and_finds_them_confined(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "systemd")
    named = []
    for unit in [*UNITS, DEPLOY / "systemd" / "coldchain.target", DEPLOY / "influxdb" / "influxdb.service"]:
        # The program isn't where it will be.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text("utf-8"), flags=re.MULTILINE)
        named.append(tmp_path / unit.name.replace("@", "@1"))
        named[-1].write_text(text)
    verified = _ran(analyze, "verify", "--man=no", "--recursive-errors=no", *map(str, named))
    assert not verified.stderr
    assert not verified.returncode
    for unit in named:
        if unit.name.startswith("coldchain") and unit.suffix == ".service":
            told = _ran(analyze, "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", str(unit))
            assert not told.returncode, told.stdout


def test_nginx_takes_the_site(tmp_path: Path) -> None:
    nginx = tool("nginx", "nginx-light")
    _ran_well(CA, "new", folder=tmp_path)
    _ran_well(CA, "host", "cold.example.org", folder=tmp_path)
    for upstream in (DEPLOY / "nginx" / "upstream.conf", DEPLOY / "compose" / "upstream.conf"):
        site = (DEPLOY / "nginx" / "coldchain.conf").read_text("utf-8")
        site = site.replace("/etc/nginx/coldchain", f"{tmp_path}/cold.example.org")
        site = re.sub(r"listen (\[::\]:)?(80|443)\b", r"listen \g<1>1\g<2>", site)
        whole = f"{upstream.read_text('utf-8')}\naccess_log off;\n{site}"
        (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{whole}\n}}\n")
        tested = _ran(nginx, "-t", "-q", "-e", "stderr", "-c", str(tmp_path / "nginx.conf"))
        assert not tested.returncode, tested.stderr


def test_the_own_authority_issues_for_hosts_and_clients_and_revokes(tmp_path: Path) -> None:
    for words in (["new"], ["host", "cold.example.org", "192.0.2.7"], ["client", "10001"], ["client", "10002"]):
        _ran_well(CA, *words, folder=tmp_path)
    certificates = ("cold.example.org", "10001", "10002")
    assert [_accepted(tmp_path, name) for name in certificates] == [True, True, True]
    said = _ran_well(
        "openssl",
        "x509",
        "-in",
        "cold.example.org.crt",
        "-noout",
        "-subject",
        "-ext",
        "subjectAltName",
        folder=tmp_path,
    )
    assert "CN = cold.example.org" in said
    assert "DNS:cold.example.org, IP Address:192.0.2.7" in said
    assert _accepted(tmp_path, "cold.example.org", purpose="sslserver")
    # A gateway's certificate makes nobody a server.
    assert not _accepted(tmp_path, "10001", purpose="sslserver")
    _ran_well(CA, "revoke", "10001", folder=tmp_path)
    assert [_accepted(tmp_path, name) for name in certificates] == [True, False, True]
    keys = [path for path in tmp_path.iterdir() if path.suffix == ".key"]
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["client", "10001"], "10001.crt is there already"),
        (["client", "a/b"], "a/b: 1 to 64 of"),
        (["client", "+"], "+: 1 to 64 of"),
        (["new"], "ca.key is there already"),
        (["revoke", "10009"], "there is no 10009.crt"),
        ([], "ca new"),
    ],
)
def test_the_own_authority_refuses_what_would_do_harm(tmp_path: Path, words: Sequence[str], said: str) -> None:
    _ran_well(CA, "new", folder=tmp_path)
    _ran_well(CA, "client", "10001", folder=tmp_path)
    before = (tmp_path / "10001.crt").read_bytes()
    refused = _ran(str(CA), *words, folder=tmp_path)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert (tmp_path / "10001.crt").read_bytes() == before


def test_an_own_name_does_not_leave_the_command_without_settings(tmp_path: Path) -> None:
    """The command of /usr/local/bin finds settings and passwords where the page puts them, unless told otherwise."""
    asked = tmp_path / "coldchain"
    asked.write_text('#!/bin/sh\necho "$COLDCHAIN_CONFIG $PGPASSFILE $*"\n')
    asked.chmod(0o755)
    script = (DEPLOY / "bin" / "coldchain").read_text("utf-8")
    assert "runuser -u coldchain --" in script
    script = script.replace("/opt/coldchain/venv/bin/coldchain", str(asked)).replace("runuser -u coldchain --", "")
    said = subprocess.run(["sh", "-s", "--", "check", "a b"], input=script, capture_output=True, text=True, check=True)
    assert said.stdout == "/etc/coldchain/coldchain.toml /etc/coldchain/pgpass check a b\n"


def _accepted(folder: Path, name: str, *, purpose: str = "any") -> bool:
    words = ["-CAfile", "ca.crt", "-crl_check", "-CRLfile", "revoked.crl", "-purpose", purpose, f"{name}.crt"]
    return not _ran("openssl", "verify", *words, folder=folder).returncode


def _ran(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def _ran_well(*words: str | Path, folder: Path) -> str:
    done = _ran(*map(str, words), folder=folder)
    assert not done.returncode, done.stderr
    return done.stdout


def test_in_compose_the_proxy_alone_is_believed_whose_request_it_is() -> None:
    network = re.search(r"subnet: ([\d./]+), ip_range: ([\d./]+)", _compose())
    proxy, trusted = re.findall(r"ipv4_address: ([\d.]+)", _compose()), re.findall(r"ALLOW_IPS: (\S+)", _compose())
    assert network
    subnet, others = map(ip_network, network.groups())
    assert proxy == trusted
    assert ip_address(proxy[0]) in subnet
    assert ip_address(proxy[0]) not in others, "another container might be given it"
