"""Fixtures of the intake log's contract: every test runs on each adapter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.intake.port import IntakeLog
from tests.fixtures.intake_logs import OPEN


@pytest.fixture(params=OPEN)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def log(adapter: str, tmp_path: Path) -> Iterator[IntakeLog]:
    log = OPEN[adapter](tmp_path)
    yield log
    log.close()
