"""Session cookie of the browser: its name, given at sign-in and taken at sign-out."""

from fastapi import Response

from api.services import Services
from core.access.sessions import OpenedSession


def session_cookie(services: Services) -> str:
    """Return the cookie's name; behind TLS the name makes the browser keep it to this host and to https."""
    return "__Host-cc_session" if services.behind_tls else "cc_session"


def keep_session(answer: Response, services: Services, opened: OpenedSession) -> None:
    """Set the session cookie: scripts can't read it, and other sites don't send it along."""
    answer.set_cookie(
        session_cookie(services),
        opened.token,
        max_age=int(services.settings.api.session_ttl),
        httponly=True,
        samesite="lax",
        secure=services.behind_tls,
    )


def forget_session(answer: Response, services: Services) -> None:
    """Delete the session cookie."""
    answer.delete_cookie(session_cookie(services), httponly=True, samesite="lax", secure=services.behind_tls)
