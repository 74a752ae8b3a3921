"""What is missing is said in one line that names the fix."""

from pathlib import Path

import pytest

from infra.embedded.errors import StackError
from infra.embedded.jars import cache_folder, ensure_jars, kafka_version, require_java
from infra.embedded.stack import Stack


def script(folder: Path, name: str, body: str) -> Path:
    """An executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


def one_line(error: StackError) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_no_java(tmp_path: Path) -> None:
    with pytest.raises(StackError) as caught:
        require_java({"PATH": str(tmp_path)})
    assert "no java found" in one_line(caught.value)
    assert "install Java 17+" in caught.value.fix


def test_an_old_java(tmp_path: Path) -> None:
    script(tmp_path / "bin", "java", "echo 'openjdk version \"11.0.2\" 2019' >&2")
    with pytest.raises(StackError, match="is Java 11: Kafka 4 needs 17"):
        require_java({"JAVA_HOME": str(tmp_path), "PATH": ""})


def test_no_maven_and_an_empty_cache(tmp_path: Path) -> None:
    with pytest.raises(StackError) as caught:
        ensure_jars({"PATH": str(tmp_path), "MILLRACE_CACHE": str(tmp_path / "cache")})
    assert "no mvn found" in one_line(caught.value)


def test_maven_is_not_needed_once_the_jars_are_there(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "MILLRACE_CACHE": str(tmp_path)}
    folder = cache_folder(environment)
    folder.mkdir()
    (folder / "kafka_2.13-0.jar").touch()
    assert ensure_jars(environment) == folder
    assert folder.name == f"kafka-{kafka_version()}"


def test_a_failing_maven_is_quoted_and_leaves_no_half_cache(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", "echo '[ERROR] Unknown host repo.example'; exit 1")
    environment = {"PATH": f"{tmp_path / 'bin'}:/bin:/usr/bin", "MILLRACE_CACHE": str(tmp_path / "cache")}
    with pytest.raises(StackError, match="Unknown host repo"):
        ensure_jars(environment)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wished_port_that_is_none(tmp_path: Path) -> None:
    everything_else = {"MILLRACE_REDIS_URL": "redis://x", "MILLRACE_CLICKHOUSE_URL": "http://x"}
    with pytest.raises(StackError, match="MILLRACE_KAFKA_PORT=banana is no port"):
        Stack(tmp_path, environment={**everything_else, "MILLRACE_KAFKA_PORT": "banana"}).start()


def test_a_stack_that_is_replaced_whole_starts_nothing(tmp_path: Path) -> None:
    environment = {
        "MILLRACE_KAFKA_BOOTSTRAP": "kafka:1",
        "MILLRACE_REDIS_URL": "redis://r",
        "MILLRACE_CLICKHOUSE_URL": "http://c",
    }
    stack = Stack(tmp_path, environment=environment)
    addresses = stack.start()
    assert addresses.env() == environment
    assert not stack.supervisor.states()
    stack.stop()


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(StackError, match="cannot use"):
        Stack(blocker / "home").start()
