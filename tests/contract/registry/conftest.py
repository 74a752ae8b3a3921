"""The registry's handlers over a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from millrace.stores.sql import Database

from tests.support.postgres import postgres
from tests.unit.registry.desk import Room

__all__ = ["postgres"]


@pytest.fixture
async def room(postgres: str) -> AsyncIterator[Room]:
    """As in the unit tests, on PostgreSQL."""
    room = await Room(Database(postgres, room=f"registry_{uuid.uuid4().hex[:8]}")).start()
    await room.apply()
    yield room
    await room.stop()
