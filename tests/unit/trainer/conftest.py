"""A trainer over twins."""

import pytest

from tests.unit.trainer.world import World, project


@pytest.fixture
async def world():
    """The small project, with state in memory."""
    made = World(project())
    await made.start()
    yield made
    await made.stop()
