"""Structured logging: one JSON object for each line, with an event in past tense and its fields.

Secrets never reach the log: fields whose name says that they hold a secret are masked here.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET = ("password", "secret", "token", "key", "openid", "phone", "authorization", "cookie")
_PLAIN = ("key_id", "idempotency_key")


def set_up(service: str, *, level: str = "INFO", plain: bool = False) -> None:
    """Send structured logs of `service` to stderr: JSON lines, or readable ones when `plain`.

    Log lines of libraries go the same way.
    """

    def name_service(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        return event

    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        mask_secrets,
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=False) if plain else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("amqtt", "transitions", "apscheduler", "pymodbus", "httpx", "urllib3", "uvicorn.access", "alembic"):
        logging.getLogger(noisy).setLevel("WARNING")


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module, as in `log = logs.logger(__name__)`."""
    return structlog.stdlib.get_logger(name)


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask the value of every field whose name says that it is secret or personal."""
    for name in event:
        lower = name.lower()
        if lower not in _PLAIN and any(part in lower for part in _SECRET):
            event[name] = "***"
    return event
