from pathlib import Path

import msgspec
import pytest

from config import secrets
from config.secrets import NoSecrets, Secrets


def test_a_gateway_never_gets_the_services_password(tmp_path: Path) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    with pytest.raises(ValueError, match="another number"):
        secrets.gateway_password(str(tmp_path), "coldchain")
    issued = secrets.gateway_password(str(tmp_path), "10001")
    assert secrets.gateway_password(str(tmp_path), "10001") == issued
    assert secrets.read(str(tmp_path)).broker["coldchain"] != issued


def test_an_edge_box_holds_its_own_password_alone_and_a_server_all(tmp_path: Path) -> None:
    secrets.write(str(tmp_path), Secrets(broker={"10001": "x"}))
    assert secrets.read(str(tmp_path), edge=True).broker == {"10001": "x"}
    with pytest.raises(NoSecrets, match="only an edge box may lack"):
        secrets.read(str(tmp_path))


def test_an_edge_box_is_given_the_passwords_of_its_gateways_and_nothing_else(tmp_path: Path) -> None:
    server, box = str(tmp_path / "server"), tmp_path / "box"
    secrets.write(server, msgspec.structs.replace(secrets.fresh("coldchain"), wechat_secret="w", influx_write="t"))
    issued = [secrets.gateway_password(server, number) for number in ("10001", "10002", "10003")]
    text = secrets.encoded(secrets.of_edge_box(secrets.read(server), ["10003", "10001"], server))
    assert msgspec.json.decode(text) == {"broker": {"10003": issued[2], "10001": issued[0]}}
    box.mkdir()
    secrets.path_in(str(box)).touch(mode=0o600)
    secrets.path_in(str(box)).write_bytes(text)
    assert secrets.read(str(box), edge=True).broker["10001"] == issued[0]
    for stranger in ("10004", "coldchain"):
        with pytest.raises(NoSecrets, match=f"no broker password of gateway {stranger}; `coldchain import` issues one"):
            secrets.of_edge_box(secrets.read(server), ["10001", stranger], server)


def test_the_file_is_nobody_elses(tmp_path: Path) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    path = secrets.path_in(str(tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(NoSecrets, match="chmod 600"):
        secrets.read(str(tmp_path))


def test_missing_or_damaged_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoSecrets, match="coldchain init"):
        secrets.read(str(tmp_path))
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    secrets.path_in(str(tmp_path)).write_bytes(msgspec.json.encode({"broker": 1}))
    with pytest.raises(NoSecrets, match="backup"):
        secrets.read(str(tmp_path))


def test_a_file_that_a_windows_editor_saved_is_read_and_a_damaged_one_names_the_line(tmp_path: Path) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    path = secrets.path_in(str(tmp_path))
    content = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert secrets.read(str(tmp_path)).services == ("coldchain",)
    path.write_bytes(content.replace(b'"coldchain"', b'"cold\xffchain"'))
    with pytest.raises(NoSecrets, match=r"line \d+: the byte 0xFF .*restore it from a backup"):
        secrets.read(str(tmp_path))
