"""Fixtures of the telemetry contract: every test runs on each adapter. A new adapter is one name in ADAPTERS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.telemetry.port import Telemetry
from tests.fixtures.telemetry_adapters import ADAPTERS, bring_up, open_adapter


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    bring_up(name)
    return name


@pytest.fixture
def store(adapter: str, tmp_path: Path) -> Iterator[Telemetry]:
    opened = open_adapter(adapter, tmp_path)
    yield opened
    opened.close()
