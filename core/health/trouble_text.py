"""Texts of troubles for people, in Chinese or English: what is wrong, the effect meanwhile, and what to do.

Readiness answers anybody. Its public text has no addresses and no error messages of other programs, because these may
contain names and paths.
"""

from config.catalogue import Catalogue, Language
from core.runtime.trouble import Trouble

say = Catalogue("core.health")
_SERVICES = ("collector", "writer", "alerting", "api")
"""Services of which several processes may run. A process name is the service name with a suffix."""
_OUR_WORDS = ("audit",)
"""Parts whose detail is Coldchain's own text and names nobody."""


def wrong(trouble: Trouble, language: Language = "en") -> str:
    """Return the text of what is wrong."""
    part = say.section("part", language).get(trouble.part, trouble.part)
    return say(f"wrong.{trouble.kind}", language, part=part)


def advice(trouble: Trouble, language: Language = "en") -> str:
    """Return the effect meanwhile, where it isn't obvious, and what to do."""
    texts = say.section("meanwhile", language)
    meanwhile = texts.get(trouble.kind) or texts.get("intake log" if trouble.with_log else trouble.part, "")
    command = next((service for service in _SERVICES if trouble.part.startswith(f"{service}-")), trouble.part)
    action = say(f"mend.{trouble.kind}", language, service=command, process=trouble.part)
    separator = "。" if language == "zh-CN" else "; "
    return separator.join(filter(None, (meanwhile, action)))


def public(trouble: Trouble) -> str:
    """Return the public text of a trouble, in one line."""
    own = f" ({trouble.detail})" if trouble.part in _OUR_WORDS else ""
    return f"{wrong(trouble)}{own}: {advice(trouble)}"
