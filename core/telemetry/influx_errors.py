"""Translation of errors of InfluxDB and its client into those of the telemetry port."""

from collections.abc import Iterator
from contextlib import contextmanager

from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from core.telemetry import flux
from core.telemetry.port import TelemetryUnavailable


@contextmanager
def spoken() -> Iterator[None]:
    """Turn every error between this process and the server into a TelemetryUnavailable that says how to fix it."""
    try:
        yield
    except ApiException as error:
        msg = f"InfluxDB answered {error.status}: {message(error)}"
        raise TelemetryUnavailable(msg) from error
    except (HTTPError, OSError, flux.IncompleteAnswer) as error:
        msg = f"InfluxDB gave no answer: {str(error) or type(error).__name__}"[:500]
        raise TelemetryUnavailable(msg) from error


def message(error: ApiException) -> str:
    """Return the server's message, at most 500 characters of it."""
    return str(error.message)[:500]
