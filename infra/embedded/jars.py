"""Kafka's jars: fetched once by Maven from infra/kafka/pom.xml into a cache, then used for ever."""

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from infra.embedded.errors import StackError

POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
MINIMUM_JAVA = 17
MAVEN_DEADLINE_S = 300
"""44 MB of jars; a slow line must get its chance, a hung proxy must not hang us for ever."""


def kafka_version() -> str:
    """The version that the pom names."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", POM.read_text())
    if found is None:
        raise StackError("infra/kafka/pom.xml names no kafka.version", fix="restore the file")
    return found.group(1)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where the jars of this version are, or will be."""
    root = environment.get("MILLRACE_CACHE") or str(
        Path(environment.get("HOME", "~")).expanduser() / ".cache" / "millrace"
    )
    return Path(root) / f"kafka-{kafka_version()}"


def java_binary(environment: Mapping[str, str]) -> str:
    """The java to run: JAVA_HOME's, else the one on PATH. StackError when there is none."""
    home = environment.get("JAVA_HOME", "")
    candidate = Path(home) / "bin" / "java"
    found = str(candidate) if home and candidate.exists() else shutil.which("java", path=environment.get("PATH"))
    if not found:
        raise StackError(
            "no java found",
            "the embedded Kafka needs it",
            "install Java 17+, or set MILLRACE_KAFKA_BOOTSTRAP to a running Kafka",
        )
    return found


def java_version(java: str) -> int:
    """Java's major version; 0 when it does not say one."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(found.group(1)) if found else 0


def require_java(environment: Mapping[str, str]) -> str:
    """The java binary, new enough; StackError otherwise."""
    java = java_binary(environment)
    major = java_version(java)
    if major < MINIMUM_JAVA:
        raise StackError(
            f"{java} is Java {major}", f"Kafka 4 needs {MINIMUM_JAVA}", "install a newer one or set JAVA_HOME"
        )
    return java


def ensure_jars(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder with Kafka's jars, fetched when missing. StackError when Maven is missing or fails."""
    folder = cache_folder(environment)
    if folder.is_dir() and any(folder.glob("kafka_*.jar")):
        return folder
    maven = shutil.which("mvn", path=environment.get("PATH"))
    if maven is None:
        raise StackError(
            "no mvn found",
            f"Kafka's jars are not in {folder} yet and Maven fetches them",
            "install Maven, or set MILLRACE_KAFKA_BOOTSTRAP to a running Kafka",
        )
    draft = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        draft.mkdir(parents=True)
        _fetch(maven, draft, environment)
        _adopt(draft, folder)
    except OSError as error:
        raise StackError(f"cannot write {draft}", str(error), "free the disk or set MILLRACE_CACHE") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _fetch(maven: str, draft: Path, environment: Mapping[str, str]) -> None:
    command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    try:
        answer = subprocess.run(
            [*command, f"-DoutputDirectory={draft}"],
            capture_output=True,
            text=True,
            timeout=MAVEN_DEADLINE_S,
            check=False,
            env=dict(environment),
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            "Maven did not finish", f"{MAVEN_DEADLINE_S} s passed", "check the network or proxy"
        ) from error
    if answer.returncode != 0 or not any(draft.glob("kafka_*.jar")):
        said = re.search(r"\[ERROR\] (.*)", answer.stdout + answer.stderr)
        why = said.group(1)[:300] if said else f"mvn ended with {answer.returncode}"
        raise StackError("Maven could not fetch Kafka's jars", why, "check the network, or ~/.m2/settings.xml")


def _adopt(draft: Path, folder: Path) -> None:
    """Renames the finished draft; when another process was faster its folder is as good."""
    try:
        draft.rename(folder)
    except OSError:
        if not any(folder.glob("kafka_*.jar")):
            raise
