from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.registry.desk import Room


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    """A registry over twins, with the parcels project applied."""
    room = await Room().start()
    await room.apply()
    yield room
    await room.stop()
