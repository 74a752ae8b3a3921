"""An S3 server (moto's) in this process, and the settings of fsspec that point at it."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import pytest
from fsspec.config import conf, set_conf_env
from moto.server import ThreadedMotoServer

from tests.contract.compose.compose import services


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment of a room in the compose file, with this server for its MinIO; its bucket exists."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else it writes a line a request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {name: str(value) for name, value in services()["registry"]["environment"].items()}
    environment["FSSPEC_S3_ENDPOINT_URL"] = f"http://{host}:{port}"
    bucket = environment["MILLRACE_OBJECTS_URL"].removeprefix("s3://").partition("/")[0]
    # Every server of one process shows the same buckets, and each folder of tests that asks has its own.
    fsspec.filesystem("s3", **fsspec_settings(environment)).makedirs(bucket, exist_ok=True)
    yield environment
    server.stop()


def fsspec_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """What fsspec makes of the `FSSPEC_S3_…` variables when a process starts with them."""
    read: dict[str, dict[str, Any]] = {}
    set_conf_env(read, dict(environment))
    return read["s3"]


def use_s3(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`s3://` in this process goes where it would in one that was started with `environment`."""
    monkeypatch.setitem(conf, "s3", fsspec_settings(environment))
