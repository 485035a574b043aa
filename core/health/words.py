"""How a trouble is told to a person: what is wrong, what happens meanwhile, and what to do, in Chinese or English.

A stranger (readiness answers anybody) gets the same sentence without addresses and without what a program underneath
said, which may have names and paths in it.
"""

from config.catalogue import Catalogue, Language
from core.runtime.trouble import Trouble

say = Catalogue("core.health")
_SERVICES = ("collector", "alerting", "api")
"""Of which several may run; the name of each begins with what it is, and the command is called that."""
_OUR_WORDS = ("audit",)
"""Parts whose detail is composed by us and names nobody."""


def wrong(trouble: Trouble, language: Language = "en") -> str:
    """Return what is wrong."""
    part = say.section("part", language).get(trouble.part, trouble.part)
    return say(f"wrong.{trouble.kind}", language, part=part)


def advice(trouble: Trouble, language: Language = "en") -> str:
    """Return what happens meanwhile, where that isn't plain, and what to do."""
    texts = say.section("meanwhile", language)
    meanwhile = texts.get(trouble.kind) or texts.get("intake log" if trouble.with_log else trouble.part, "")
    command = next((service for service in _SERVICES if trouble.part.startswith(f"{service}-")), trouble.part)
    mend = say(f"mend.{trouble.kind}", language, service=command, process=trouble.part)
    between = "。" if language == "zh-CN" else "; "
    return between.join(filter(None, (meanwhile, mend)))


def public(trouble: Trouble) -> str:
    """Return all that a stranger may know, in one line."""
    own = f" ({trouble.detail})" if trouble.part in _OUR_WORDS else ""
    return f"{wrong(trouble)}{own}: {advice(trouble)}"
