"""The one access token of an app, shared under a lease: two holders would invalidate each other's."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.record import Record
from core.runtime.instant import Instant


class WechatToken(Record):
    """An app's token and until when it serves (real time, as WeChat counts)."""

    __tablename__ = "wechat_token"

    app_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    token: Mapped[str | None] = mapped_column(String(600))
    expires_at: Mapped[Instant | None]
    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[Instant | None]
