"""Whether this process lives, whether the line can work, and the figures for Prometheus."""

from collections.abc import Callable, Iterable
from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy import func, select

from api.asking import Using
from api.metrics import Values
from api.parts import Parts, Unavailable
from api.shapes import Shape
from core.alarms.tables import Alarm, Outbox, Tick
from core.runtime.logs import logger
from core.runtime.status import Status, read_all

log = logger(__name__)
router = APIRouter(tags=["health"])

NEEDED = ("collector", "alerting")
"""Services whose silence means that the line doesn't work, where they run on this machine."""


class Check(Shape):
    """One thing that must be so, and what is wrong with it."""

    name: str
    ok: bool
    detail: str = ""


class Readiness(Shape):
    """All checks together."""

    ready: bool
    checks: list[Check]


@router.get("/healthz")
def healthz() -> PlainTextResponse:
    """Say that the process answers; nothing else is looked at."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness}})
def readyz(parts: Using) -> Response:
    """Say whether stores and services are there, and what is wrong with each that isn't."""
    readiness = ready(parts)
    status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(readiness.model_dump(), status)


@router.get("/metrics")
def metrics(parts: Using) -> PlainTextResponse:
    """Figures in the Prometheus text format."""
    return PlainTextResponse(parts.metrics.text(), media_type="text/plain; version=0.0.4")


def ready(parts: Parts) -> Readiness:
    """Look at every store, at what the services said last, and at what alerting found in itself."""
    stores = list(_stores(parts))
    checks = [*stores, *_services(parts), *(_audit(parts) if stores[0].ok else ())]
    return Readiness(ready=all(check.ok for check in checks), checks=checks)


def figures(parts: Parts) -> Iterable[tuple[str, str, Values]]:
    """Count what waits, and repeat what the services say of themselves; a store's absence is a figure too."""
    readiness = ready(parts)
    yield "coldchain_ready", "1 where a store or service is there", {(c.name,): float(c.ok) for c in readiness.checks}
    if all(check.ok for check in readiness.checks if check.name == "records"):
        with parts.records.read() as tx:
            for name, meaning, column in (
                ("coldchain_alarms", "Alarms by state", Alarm.state),
                ("coldchain_messages", "Messages by state", Outbox.state),
            ):
                rows = tx.execute(select(column, func.count()).group_by(column)).all()
                yield name, meaning, {(state,): float(count) for state, count in rows}
    told = read_all(parts.settings.data_dir)
    for service in sorted({status.service for status in told.values()}):
        facts: Values = {
            (name, process): float(fact)
            for process, status in told.items()
            for name, fact in status.facts.items()
            if status.service == service and isinstance(fact, int | float)
        }
        yield f"coldchain_{service}", f"What each process of {service} says of itself", facts


def _stores(parts: Parts) -> Iterable[Check]:
    def look_at_records() -> None:
        with parts.records.read() as tx:
            tx.execute(select(Alarm.id).limit(1)).all()

    yield _look("records", look_at_records)
    yield _look("telemetry", lambda: parts.telemetry.get().latest([]))
    yield _look("intake log", lambda: parts.log.get().shards())


def _look(name: str, ask: Callable[[], object]) -> Check:
    """Ask a store something small."""
    try:
        ask()
    except Unavailable as error:
        return Check(name=name, ok=False, detail=str(error))
    except Exception as error:  # noqa: BLE001 (whatever a driver raises, the store can't be used)
        log.warning("store was not ready", store=name, problem=str(error)[:300])
        return Check(
            name=name, ok=False, detail=f"can't be read ({type(error).__name__}); the log of the api says more"
        )
    return Check(name=name, ok=True)


def _audit(parts: Parts) -> Iterable[Check]:
    """Say what the last look of alerting's audit found, whichever machine it was on; it names nobody."""
    with parts.records.read() as tx:
        found = tx.scalar(select(Tick.detail).where(Tick.name == "audit"))
    if found is not None:
        yield Check(name="audit", ok=not found, detail=found)


def _services(parts: Parts) -> Iterable[Check]:
    told = read_all(parts.settings.data_dir)
    for service in NEEDED:
        running = {name: status for name, status in told.items() if status.service == service}
        if not running and parts.records.is_sqlite:  # else it runs on another machine
            yield Check(name=service, ok=False, detail=f"has never run on this data folder; start: coldchain {service}")
        for name, status in running.items():
            yield _service(name, status)


def _service(name: str, status: Status) -> Check:
    if not status.fresh:
        gone = "" if name == status.service else f"; delete status/{name}.json if it is gone for good"
        detail = f"has been silent; is it running? Start: coldchain {status.service}{gone}"
        return Check(name=name, ok=False, detail=detail)
    # Not its text, which is for whoever reads logs: it may have an address or a driver's words.
    trouble = "reports a problem; its log says which" if status.facts.get("problem") else ""
    return Check(name=name, ok=not trouble, detail=trouble)
