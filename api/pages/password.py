"""Page for changing one's own password, and for reporting that somebody else uses one's account."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from api.app_context import AppContextDep
from api.auth import Principal, SignedInPrincipal, SignInConcurrencyLimited
from api.db_session import WriteSession
from api.pages.forms import FilledForm
from api.pages.rendering import page
from api.problems import problem_of
from api.routes.session import replace_own_password
from api.session_cookie import forget_session, keep_session
from api.sign_in_throttle import TooManyAttempts
from config.localized_message import LocalizedMessage
from core.access.misuse import report_misuse
from core.errors import Invalid, PermissionDenied

router = APIRouter(tags=["pages"])
LONGEST_PASSWORD = 200
FIELD_OF = {"present": "present", "password": "new"}
"""Field of the form that a refused value was written in."""


@router.get("/password")
def form(request: Request, principal: SignedInPrincipal) -> Response:
    """Show the form. It is also all that is shown once the password has expired."""
    return _form(request, _with_account(principal))


@router.post("/password", dependencies=[SignInConcurrencyLimited])
def change(
    request: Request,
    context: AppContextDep,
    principal: SignedInPrincipal,
    present: Annotated[str, Form()] = "",
    new: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Change the password, end all other sessions, and open the first page."""
    _with_account(principal)
    missing = {
        name: "form.missing" for name, text in (("present", present), ("new", new), ("again", again)) if not text
    }
    too_long = {
        name: "form.too_long" for name, text in (("present", present), ("new", new)) if len(text) > LONGEST_PASSWORD
    }
    if missing or too_long:
        return _form(request, principal, errors={**too_long, **missing})
    if new != again:
        return _form(request, principal, errors={"again": "change.differs"})
    try:
        opened = replace_own_password(request, context, principal, present, new)
    except TooManyAttempts as error:
        return _form(request, principal, wrong="problem.too_many", status=HTTPStatus(problem_of(error).status))
    except Invalid as error:
        reason = error.message.name if isinstance(error.message, LocalizedMessage) else ""
        named = f"change.{reason.removeprefix('wrong.')}" if reason else "form.characters"
        return _form(request, principal, errors={FIELD_OF[error.field]: named})
    answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    keep_session(answer, context, opened)
    return answer


@router.post("/password/misuse")
def misuse(request: Request, tx: WriteSession, context: AppContextDep, principal: SignedInPrincipal) -> Response:
    """Lock one's own account, since somebody else uses it, and end all its sessions."""
    report_misuse(tx, _with_account(principal).actor, now=context.clock.now())
    request.state.session = None
    answer = page(request, "notice.html", title="change.reported", text="change.reported_next")
    forget_session(answer, context)
    return answer


def _with_account(principal: Principal) -> Principal:
    """Return the principal, who has an account and came with its session.

    Raises: PermissionDenied.
    """
    if principal.actor.account is None:
        msg = f"{principal.actor.name} has no password"
        raise PermissionDenied(msg)
    return principal


def _form(
    request: Request,
    principal: Principal,
    *,
    errors: dict[str, str] | None = None,
    wrong: str = "",
    status: HTTPStatus | None = None,
) -> Response:
    refused = HTTPStatus.UNPROCESSABLE_ENTITY if errors else HTTPStatus.OK
    return page(
        request,
        "password.html",
        status=status or refused,
        form=FilledForm({}, errors or {}),
        wrong=wrong,
        expired=principal.must_change_password,
        address="/password",
    )
