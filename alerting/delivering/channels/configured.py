"""Configured channels, in the order in which one falls back to the next."""

from collections.abc import Callable

from alerting.delivering.channels.port import Channel
from alerting.delivering.channels.wechat import wechat_channel
from config.secrets import Secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting
from config.texts import say
from core.db.engine import Records
from core.runtime.logs import logger

log = logger(__name__)


def configured_channels(settings: Settings, credentials: Secrets, records: Records) -> dict[str, Channel]:
    """Return the channels of `alerting.channels` that can send, by name.

    Raises: InvalidSetting for a name that no channel has.
    """
    known: dict[str, Callable[[], Channel | None]] = {
        "wechat": lambda: wechat_channel(settings.wechat, credentials.wechat_secret, records),
    }
    channels = {}
    for name in settings.alerting.channels:
        if name not in known:
            raise InvalidSetting(say("settings.channel", name=repr(name), known=", ".join(known)))
        if (channel := known[name]()) is not None:
            channels[name] = channel
        else:
            log.warning("channel not configured: its messages stay queued", channel=name)
    return channels
