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
