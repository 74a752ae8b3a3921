import pytest

from tests.unit.ingestion.world import World


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    if hasattr(made, "plane"):
        await made.stop()
