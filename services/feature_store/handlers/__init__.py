"""What the room does with what arrives: topic to consumer groups, each with its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from services.feature_store.handlers.history import HistoryEvents
from services.feature_store.handlers.online import OnlineFeatures

ONLINE = "feature_store.online"
HISTORY = "feature_store.history"
DATA = "data.{project}.{source}"
HANDLERS: Mapping[str, Mapping[str, Callable[..., Awaitable[None]]]] = {
    DATA: {ONLINE: OnlineFeatures.handle, HISTORY: HistoryEvents.handle},
}
