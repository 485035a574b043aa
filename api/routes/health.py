"""Health: whether this process lives, whether the system can work, and the metrics for Prometheus.

None of these waits for a store. A check ends in time whatever hangs, and runs outside the threads that serve requests,
which may all be waiting for that store.
"""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from api.app_context import AppContext
from api.metrics import Values
from api.schemas import Schema
from core.errors import PermissionDenied
from core.health.gateway_troubles import GATEWAY_TROUBLE_KINDS
from core.health.health_check import NEEDED, Health
from core.health.trouble_text import public
from core.intake.port import GatewayFaultKind
from core.runtime.trouble import TroubleKind

router = APIRouter(tags=["health"])

WITHIN_S = 2.0
_SERVES = (TroubleKind.DISK_LOW, TroubleKind.UNTOLD, TroubleKind.HELD, *GATEWAY_TROUBLE_KINDS)


class Check(Schema):
    """A part that must work; if it doesn't, what is wrong, by a fixed word and in a sentence."""

    name: str
    ok: bool
    problem: str = ""
    detail: str = ""


class Readiness(Schema):
    """All checks together."""

    ready: bool
    checks: list[Check]


@router.get("/healthz")
async def healthz() -> PlainTextResponse:
    """Say that the process answers; nothing else is checked."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness}})
async def readyz(request: Request) -> Response:
    """Say whether stores and services work, and what is wrong with each that doesn't; within about two seconds."""
    context: AppContext = request.app.state.context
    readiness = ready(await _shared_health_check(context))
    status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(readiness.model_dump(), status)


@router.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    """Return metrics in the Prometheus text format, to this machine and the networks in `api.metrics`."""
    context: AppContext = request.app.state.context
    peer = request.client.host if request.client else ""
    if not _may_ask(peer, context.settings.api.metrics):
        msg = f"{peer or 'you'} may not ask for figures; api.metrics in coldchain.toml says who may"
        raise PermissionDenied(msg)
    text = await asyncio.to_thread(context.metrics.text)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def _shared_health_check(context: AppContext) -> Health:
    """Return the result of a health check; concurrent requests share one, so that their number doesn't slow it down."""
    if context.health_task is None or context.health_task.done():
        context.health_task = asyncio.create_task(asyncio.to_thread(context.health_check.run, WITHIN_S))
    return await asyncio.shield(context.health_task)


def _may_ask(peer: str, networks: Iterable[str]) -> bool:
    """Return whether an address may read metrics; behind a proxy on this machine it is the proxy's client."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback or any(address in ip_network(network) for network in networks)


def ready(health: Health) -> Readiness:
    """Return a check for each store and each needed service, and one for each other trouble.

    A trouble that doesn't stop requests is reported, but the process is ready all the same: a disk that is almost full,
    a trouble of a gateway, alarms without anybody to tell, a provider that refuses.
    """
    service_names = [status.name for status in health.services or () if status.service in NEEDED]
    names = ["records", "intake log", "telemetry", *service_names]
    checks = [Check(name=name, ok=True) for name in dict.fromkeys(names) if health.of(name) is None]
    for trouble in health.troubles:
        is_blocking = trouble.kind not in _SERVES
        checks.append(Check(name=trouble.part, ok=not is_blocking, problem=trouble.kind, detail=public(trouble)))
    return Readiness(ready=all(check.ok for check in checks), checks=sorted(checks, key=lambda check: check.name))


def figures(context: AppContext) -> Iterable[tuple[str, str, Values]]:
    """Yield the metrics of the queues and of the services' own facts; the absence of a store is a metric too."""
    health = context.health_check.run(WITHIN_S)
    ready_by_name: dict[tuple[str, ...], float] = {}
    for check in ready(health).checks:  # of several checks with one name, a failed one counts
        ready_by_name[check.name,] = min(ready_by_name.get((check.name,), 1.0), float(check.ok))
    yield "coldchain_ready", "1 where a store or service is there", ready_by_name
    troubles: Values = {(f"{trouble.part}: {trouble.kind}",): 1.0 for trouble in health.troubles}
    yield "coldchain_trouble", "1 for everything that is wrong now", troubles
    if health.records:
        yield "coldchain_alarms", "Alarms by state", _by_name(health.records.alarms)
        yield "coldchain_messages", "Messages by state", _by_name(health.records.messages)
        yield "coldchain_overdue_steps", "Steps that should have been told", {("all",): float(health.records.overdue)}
    if health.log:
        yield "coldchain_held", "Readings in quarantine by reason", _by_name(health.log.held)
        yield "coldchain_dead_letters", "Unreadable messages that are kept", {("all",): float(health.log.dead)}
        faults = {
            str(kind): sum(fault.n for fault in health.log.faults if fault.kind is kind) for kind in GatewayFaultKind
        }
        yield "coldchain_gateway_faults", "What was counted of gateways, ever", _by_name(faults)
        yield "coldchain_clocks_behind", "Gateways whose clock runs behind", {("all",): float(len(health.log.clocks))}
    lags = {"telemetry": health.stored, "alerting": health.followed}
    behind: Values = {(reader,): float(lag.entries) for reader, lag in lags.items() if lag}
    yield "coldchain_log_behind", "Entries of the intake log that a reader has yet to take", behind
    free: Values = {(disk.parts[0],): float(disk.free) for disk in health.disks}
    yield "coldchain_disk_free_bytes", "Room where something is kept, each disk by one part on it", free
    statuses = health.services or []
    for service in sorted({status.service for status in statuses}):
        facts: Values = {
            (name, status.name): float(fact)
            for status in statuses
            for name, fact in status.facts.items()
            if status.service == service and isinstance(fact, int | float)
        }
        yield f"coldchain_{service}", f"What each process of {service} says of itself", facts


def _by_name(counts: dict[str, int]) -> Values:
    return {(name,): float(count) for name, count in counts.items()}
