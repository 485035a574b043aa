"""Errors of InfluxDB and its client, turned into what a caller of the telemetry port may meet."""

from collections.abc import Iterator
from contextlib import contextmanager

from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from core.telemetry import flux
from core.telemetry.port import Unavailable


@contextmanager
def spoken() -> Iterator[None]:
    """Turn whatever goes wrong between us and the server into Unavailable, with what a person needs to mend it."""
    try:
        yield
    except ApiException as error:
        msg = f"InfluxDB answered {error.status}: {message(error)}"
        raise Unavailable(msg) from error
    except (HTTPError, OSError, flux.Incomplete) as error:
        msg = f"InfluxDB gave no answer: {str(error) or type(error).__name__}"[:500]
        raise Unavailable(msg) from error


def message(error: ApiException) -> str:
    """Return what the server said, of bounded length."""
    return str(error.message)[:500]
