"""A real PostgreSQL from a wheel, as a session fixture; tests skip with a reason where it cannot start."""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A SQLAlchemy address of an empty cluster. Tests share it: use rooms (schemas) of your own."""
    # Not below pytest's own folder: as root the server runs as another user, who must be able to enter.
    with tempfile.TemporaryDirectory(prefix="millrace-postgres-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns about a runtime folder that is not set here
        pgserver = pytest.importorskip("pgserver", reason="the wheel pgserver is not installed")
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        data.mkdir()
        try:
            server = pgserver.get_server(data, cleanup_mode="stop")
        except Exception as error:
            pytest.skip(f"PostgreSQL does not start here: {type(error).__name__}: {error}")
        try:
            yield server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
        finally:
            server.cleanup()
