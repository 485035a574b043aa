"""Session cookie of the browser: its name, given at sign-in and taken at sign-out."""

from fastapi import Response

from api.app_context import AppContext
from core.access.sessions import OpenedSession


def session_cookie(context: AppContext) -> str:
    """Return the cookie's name; behind TLS the name makes the browser keep it to this host and to https."""
    return "__Host-cc_session" if context.behind_tls else "cc_session"


def keep_session(answer: Response, context: AppContext, opened: OpenedSession) -> None:
    """Set the session cookie: scripts can't read it, and other sites don't send it along."""
    answer.set_cookie(
        session_cookie(context),
        opened.token,
        max_age=int(context.settings.api.session_ttl),
        httponly=True,
        samesite="lax",
        secure=context.behind_tls,
    )


def forget_session(answer: Response, context: AppContext) -> None:
    """Delete the session cookie."""
    answer.delete_cookie(session_cookie(context), httponly=True, samesite="lax", secure=context.behind_tls)
