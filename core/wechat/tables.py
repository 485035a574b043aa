"""Table of the access token of an app. All processes share it, since fetching a second one can end the first."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.table_base import Record
from core.runtime.instant import Instant


class WechatToken(Record):
    """Access token of an app, its expiry, and the lease for fetching another; all times are real time, as WeChat's."""

    __tablename__ = "wechat_token"

    app_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    token: Mapped[str | None] = mapped_column(String(600))
    expires_at: Mapped[Instant | None]
    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[Instant | None]
