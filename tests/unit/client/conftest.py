"""A project to replay, and its events."""

import json
from pathlib import Path

import pytest
from millrace.definitions import load_text

SLICE = 30 * 60_000_000
T0 = 1_372_636_800_000_000  # 2013-07-01, a boundary of slices and of days


@pytest.fixture(scope="session")
def project():
    """Asks for a prediction per parcel at the half hour before its dispatch."""
    return load_text(Path("tests/unit/definitions/parcels.yaml").read_text())


@pytest.fixture(scope="session")
def announced():
    """JSON of an event that asks for `entity` at `moment_us`."""

    def make(entity, moment_us, **more):
        return json.dumps({"parcel_id": entity, "scheduled_dispatch": moment_us, **more}).encode()

    return make
