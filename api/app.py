"""HTTP application: routes, pages, and the middleware around them.

Everything is denied unless granted: guarded routes check the principal before anything else. Not guarded are health,
documentation, sign-in, and the signed link; a test requests every route without signing in.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute

from api import problems
from api.app_context import AppContext
from api.auth import ConcurrencyLimited, current_principal
from api.openapi import DocumentedApp
from api.pages import alarm, alarm_export, alarm_link, alarm_list, assets, device_list, home, password, sign_in, zone
from api.pages import unit_overview as unit_overview_page
from api.pages.applications import application_form, application_list, application_page
from api.query_parameters import (
    accepted_parameters,
    any_parameters,
    page_language,
    refuse_forbidden_characters,
    refuse_unknown_parameters,
)
from api.request_middleware import RequestMiddleware
from api.routes import (
    accounts,
    alarms,
    applications,
    devices,
    docs,
    grants,
    health,
    intake,
    people,
    session,
    unit_overview,
    units,
    zone_history,
)

ABOUT = (
    "Temperatures of vaccine cold-chain equipment, alarms and who was told of them, and the forms of units on their "
    "way through review: a draft is saved with its revision in If-Match, and faults are listed by row and column. "
    "Times are RFC 3339 with offset, temperatures °C. Browsers sign in with a session cookie and send its token in "
    "X-CSRF-Token with every change; "
    "machines send a token in Authorization: Bearer TOKEN, which an operator issues with coldchain token issue NAME "
    "--unit CODE (and ends with coldchain token revoke NAME). Every answer is limited to the units that were granted."
)

COMPRESSED_FROM = 1000
"""Bytes; a shorter answer fits one packet uncompressed."""
COMPRESSION = 5
"""Level of 9: a page is 3 % larger than at 9, in half the time."""


def make_app(context: AppContext) -> FastAPI:
    """Return the application over the stores, clock, settings and secrets of `context`."""
    routes = _routes()
    app = DocumentedApp(
        title="Coldchain",
        version=version("coldchain"),
        description=ABOUT,
        routes=routes,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    context.metrics.add(lambda: health.figures(context))
    app.state.parameters = _parameters()
    problems.install(app)
    paths = {id(route.original_route): route.path or "" for route in iter_route_contexts(routes)}
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESSED_FROM, compresslevel=COMPRESSION)
    app.add_middleware(RequestMiddleware, metrics=context.metrics, paths=paths, behind_tls=context.behind_tls)
    return app


@cache
def _routes() -> list[BaseRoute]:
    """Return all routes. Applications of one process share them: working out their parameters takes half a second."""
    router = APIRouter(
        dependencies=[Depends(refuse_unknown_parameters), Depends(refuse_forbidden_characters)],
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    guarded = APIRouter(prefix="/api/v1", dependencies=[Depends(current_principal), ConcurrencyLimited])
    for routes in (units, unit_overview, zone_history, alarms, intake, devices, applications, accounts, grants, people):
        guarded.include_router(routes.router)
    for lists in (grants.substitutions_router, people.managers_router, session.listing):
        guarded.include_router(lists)
    router.include_router(session.router, prefix="/api/v1")
    router.include_router(guarded)
    router.include_router(health.router, dependencies=[Depends(any_parameters)])
    router.include_router(docs.router)
    router.include_router(assets.router, include_in_schema=False)
    for page in (sign_in, password):
        router.include_router(page.router, include_in_schema=False, dependencies=[Depends(page_language)])
    pages_of_applications = (application_list, application_form, application_page)
    pages = (home, unit_overview_page, zone, alarm_list, alarm_export, alarm, alarm_link, device_list)
    for page in (*pages, *pages_of_applications):
        router.include_router(
            page.router, include_in_schema=False, dependencies=[Depends(page_language), ConcurrencyLimited]
        )
    return router.routes


@cache
def _parameters() -> Mapping[int, Mapping[str, bool] | None]:
    return accepted_parameters(_routes())


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0] if route.tags else 'page'}-{route.name}".replace("_", "-")
