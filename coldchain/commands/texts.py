"""Texts of the command line, and the classes that translate Typer's own texts."""

import re
from collections.abc import Callable
from typing import Any

import typer
from typer import rich_utils
from typer.core import TyperCommand, TyperGroup

from config.catalogue import Catalogue, terminal_language

say = Catalogue("coldchain.commands")


class Group(TyperGroup):
    """Group of commands whose help is in the terminal's language."""

    def get_usage(self, ctx: typer.Context) -> str:  # type: ignore[override]
        return _usage(super().get_usage(ctx))

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        return _translated(super().get_params(ctx))


class Command(TyperCommand):
    """Command whose help is in the terminal's language."""

    def get_usage(self, ctx: typer.Context) -> str:  # type: ignore[override]
        return _usage(super().get_usage(ctx))

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]
        return _translated(super().get_params(ctx))


def group(name: str | None = None, help_text: str = "") -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(
        name=name,
        cls=Group,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def command(app: typer.Typer, name: str, panel: str | None = None) -> Callable[[Callable[..., None]], Any]:
    """Add a function to a group as a command; its help is the text `command.<full name>`."""
    full_name = f"{app.info.name} {name}" if isinstance(app.info.name, str) else name
    return app.command(
        name, cls=Command, help=say(f"command.{full_name}"), rich_help_panel=say(f"panel.{panel}") if panel else None
    )


def translate_typer() -> None:
    """Translate the headings that Typer draws into the terminal's language."""
    for constant, text in say.section("heading").items():
        setattr(rich_utils, constant, text)


def usage_error(error: typer.TyperException) -> str:
    """Return the text of a usage error, with the command that explains more."""
    message = error.format_message()
    if terminal_language() != "en":
        pairs = zip(say.section("typer.pattern", "en").values(), say.section("typer.pattern").values(), strict=True)
        for pattern, text in pairs:
            message = re.sub(pattern, text, message, flags=re.IGNORECASE)
    context = getattr(error, "ctx", None)
    return f"{message}\n{say('typer.hint', command=context.command_path if context else 'coldchain')}"


def _usage(text: str) -> str:
    return text.replace("Usage:", say("typer.usage"), 1)


def _translated(parameters: list[Any]) -> list[Any]:
    translations = dict(
        zip(say.section("typer.option", "en").values(), say.section("typer.option").values(), strict=True)
    )
    for parameter in parameters:
        parameter.help = translations.get(parameter.help, parameter.help)
    return parameters
