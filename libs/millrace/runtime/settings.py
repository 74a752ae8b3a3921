"""Settings that every room shares: read once, typed, frozen; the environment (`MILLRACE_…`) or a file of `NAME=value`.

`MILLRACE_SETTINGS_FILE` names the file; the environment wins over it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")


def knob(default: Any, room: str, name: str, why: str, **bounds: Any) -> Any:
    """A room's own setting `name`, read from `MILLRACE_<ROOM>_<NAME>`; `bounds` are pydantic's (`ge`, `le`, …)."""
    alias = AliasChoices(f"MILLRACE_{room.upper()}_{name.upper()}", name)
    return Field(default, validation_alias=alias, description=why, **bounds)


class RoomSettings(BaseSettings):
    """Addresses, binds and identity; rooms add their own knobs with `knob`."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="ignore", populate_by_name=True)

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma-separated.")
    kafka_security: dict[str, str] = Field(
        {}, description="SASL and TLS of every Kafka client (JSON; names in millrace.bus.security)."
    )
    kafka_session_timeout_ms: int = Field(
        30_000,
        ge=6_000,
        description="After so long a silence a process's partitions go to others. Heartbeats share the event loop with"
        " handlers: a busy loop must not cost the group.",
    )
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey: the online store.")
    clickhouse_url: str = Field("http://127.0.0.1:8123", description="ClickHouse's HTTP interface: history and logs.")
    home: Path = Field(
        Path(".millrace"), description="Folder of everything kept on disk; a room writes below home/<room>."
    )
    instance: str = Field(
        "", description="Name of this process where a room runs in several: its run file is `<room>-<instance>.json`."
    )
    sql_url: str = Field("", description="SQLAlchemy address; empty: an SQLite file in the room's folder.")
    objects_url: str = Field("", description="Object store; empty: the folder home/objects/<room>.")
    grpc_bind: str = Field("127.0.0.1:0", description="gRPC listener, host:port; port 0 picks a free one.")
    http_bind: str = Field("127.0.0.1:0", description="HTTP listener, host:port; port 0 picks a free one.")
    token_file: str = Field("", description="File of `token name role,role` lines; needed to leave the loopback.")
    token: str = Field("", description="Token this room shows to the other rooms, when they ask for one.")
    tls_cert: str = Field("", description="Certificate chain (PEM) of both listeners.")
    tls_key: str = Field("", description="Private key (PEM) of `tls_cert`.")
    tls_ca: str = Field("", description="Authority (PEM) that the other rooms' certificates are checked against.")
    log_level: str = Field("INFO", description="Least severe level that is logged.")
    drain_s: float = Field(15.0, gt=0, description="Wall time that work in hand is given at shutdown, per stage.")
    start_deadline_s: float = Field(
        120.0, gt=0, description="Wall time that stores and broker have to appear at start."
    )

    ingestion_address: str = Field("", description="gRPC address of ingestion, host:port.")
    labeling_address: str = Field("", description="gRPC address of labeling, host:port.")
    feature_store_address: str = Field("", description="gRPC address of feature_store, host:port.")
    trainer_address: str = Field("", description="gRPC address of trainer, host:port.")
    registry_address: str = Field("", description="gRPC address of registry, host:port.")
    inference_address: str = Field("", description="gRPC address of inference, host:port.")
    monitor_address: str = Field("", description="gRPC address of monitor, host:port.")
    labeling_http: str = Field("", description="HTTP address of labeling (annotation page), host:port.")
    monitor_http: str = Field("", description="HTTP address of monitor (console), host:port.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the settings file."""
        path = os.environ.get("MILLRACE_SETTINGS_FILE")
        file = DotEnvSettingsSource(settings_cls, env_file=path) if path else dotenv_settings
        return init_settings, env_settings, file, file_secret_settings

    def folder(self, room: str) -> Path:
        """The room's own folder below home, made when missing."""
        path = self.home / room
        path.mkdir(parents=True, exist_ok=True)
        return path

    def database_url(self, room: str) -> str:
        """`sql_url`, or the SQLite file in the room's folder."""
        return self.sql_url or f"sqlite:///{(self.folder(room) / f'{room}.db').resolve()}"

    def objects_path(self, room: str) -> Path:
        """The folder of the room's objects when `objects_url` is empty."""
        path = self.home / "objects" / room
        path.mkdir(parents=True, exist_ok=True)
        return path

    def address(self, room: str) -> str:
        """gRPC address of a room; empty when it was not given."""
        return str(getattr(self, f"{room}_address"))
