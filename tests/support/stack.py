"""The embedded stack as a session fixture: real Kafka, Valkey and ClickHouse's engine, started once, on first use."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.embedded import Stack, StackError


@dataclass(frozen=True)
class RunningStack:
    """Addresses of the running parts; `control` kills, stops and starts them (put back what you break)."""

    control: Stack

    @property
    def kafka(self) -> str:
        """Bootstrap servers, host:port."""
        return self.control.addresses.kafka

    @property
    def redis(self) -> str:
        """redis:// URL."""
        return self.control.addresses.redis

    @property
    def clickhouse(self) -> str:
        """http:// URL."""
        return self.control.addresses.clickhouse

    @property
    def home(self) -> Path:
        """The folder of this session's stack."""
        return self.control.home

    def env(self, home: Path | None = None) -> dict[str, str]:
        """Settings for a child room; give `home` to keep its files apart from the stack's."""
        return self.control.env() | ({"MILLRACE_HOME": str(home)} if home is not None else {})


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack per test session, in a temporary folder. Tests share it: use topics, keys and databases of your own."""
    control = Stack(tmp_path_factory.mktemp("stack"))
    try:
        control.start()
    except StackError as error:
        pytest.fail(f"the embedded stack did not start: {error}", pytrace=False)
    try:
        yield RunningStack(control)
    finally:
        control.stop()
