"""Report of an import in either language: what it did, or every mistake that keeps it from being done."""

import msgspec

from coldchain.importing.import_run import RowOutcome
from coldchain.importing.mistakes import Mistake, message
from config.catalogue import Catalogue, Language

say = Catalogue("coldchain.importing")


class Issued(msgspec.Struct, frozen=True):
    """A broker password that was made for a gateway now. Shown once: put it into the gateway's secrets."""

    gateway: str
    password: str


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did; with mistakes, nothing."""

    outcomes: dict[tuple[str, RowOutcome], int]
    """How many of which type were added, changed, left as they are."""
    mistakes: list[Mistake]
    issued: list[Issued]
    warnings: list[Mistake] = []
    """What was done, and is more likely a slip."""

    @property
    def changed(self) -> bool:
        """Whether anything is in the records now that wasn't."""
        return any(outcome is not RowOutcome.UNCHANGED for _, outcome in self.outcomes)

    def lines(self, language: Language = "en") -> list[str]:
        """Say it, one line a thing."""

        def text_of(name: str, **values: object) -> str:
            return message(name, **values).text(language)

        warned = [text_of("warning", warning=warning.text(language)) for warning in self.warnings]
        if self.mistakes:
            mistakes = [mistake.text(language) for mistake in self.mistakes]
            return [*mistakes, *warned, text_of("nothing_imported", mistakes=len(self.mistakes))]
        if not self.changed:
            did = [text_of("nothing_to_do", all=sum(self.outcomes.values()))]
        else:
            did = [
                say(f"report.{what}", language, count=count, outcome=say(f"report.{outcome}", language))
                for (what, outcome), count in sorted(self.outcomes.items())
            ]
        issued = [text_of("password", gateway=one.gateway, password=one.password) for one in self.issued]
        return [*did, *warned, *issued]
