"""The bus over Apache Kafka (aiokafka): acknowledged by all in-sync replicas, idempotent, in order per partition."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.codec import has_lz4
from aiokafka.errors import TopicAlreadyExistsError, for_code

from millrace.bus.batches import send_packed
from millrace.bus.errors import BusUnavailable, UnknownTopic
from millrace.bus.events import MAX_MESSAGE_BYTES, Message
from millrace.bus.kafka_clients import Ends, admin_of, bounded, close_client
from millrace.bus.kafka_reader import KafkaReader
from millrace.bus.kafka_subscription import SESSION_TIMEOUT_MS, KafkaSubscription
from millrace.bus.ports import TopicSpec
from millrace.bus.security import client_security
from millrace.bus.sharing import Pages
from millrace.bus.topics import BROKER_TIME, TIME, segment_hours

if TYPE_CHECKING:
    from millrace.runtime.settings import RoomSettings

log = logging.getLogger(__name__)

MAX_BATCH_BYTES = 960 * 1024  # below what a broker takes unless told otherwise, also where nothing can be compressed
REQUEST_TIMEOUT_MS = 10_000
PUBLISH_MESSAGES = 10_000  # handed over at once; more go in portions
PUBLISH_DEADLINE_S = 15.0  # per portion; then BusUnavailable, and the caller repeats under the same event ids
CREATED_DEADLINE_S = 20.0


class KafkaBus:
    """A client of a Kafka cluster. `security` holds SASL and TLS settings for all its clients (see bus.security).

    The producer connects at the first publish and is replaced after a failure, so a process may start, and go on,
    while the cluster is away.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        client_id: str,
        security: Mapping[str, str] | None = None,
        *,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> None:
        self._session_timeout_ms = session_timeout_ms
        self._settings = {"bootstrap_servers": bootstrap_servers, "client_id": client_id, **client_security(security)}
        self._ends = Ends(self._settings)
        self._pages = Pages()
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def of_room(cls, room: str, settings: RoomSettings) -> KafkaBus:
        """A room's client, by its settings."""
        return cls(
            settings.kafka_bootstrap,
            # Kafka deals partitions out in the order of the members' names: a process gets the same ones in each of its
            # groups, and one reading is enough for all.
            f"millrace-{room}-{socket.gethostname()}-{os.getpid()}",
            settings.kafka_security,
            session_timeout_ms=settings.kafka_session_timeout_ms,
        )

    async def start(self) -> None:
        """Nothing to wait for: connections are made at first use."""

    async def stop(self) -> None:
        """Close the producer; what was acknowledged stays, nothing else was promised."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._close(producer)
        await asyncio.gather(*self._closing)
        await self._ends.stop()

    async def publish(self, messages: Sequence[Message]) -> None:
        """As `Bus.publish`."""
        if not messages:
            return
        producer = await self._connected()
        try:
            for start in range(0, len(messages), PUBLISH_MESSAGES):
                # An idempotent producer of aiokafka tries for ever: the deadline has to be ours.
                portion = messages[start : start + PUBLISH_MESSAGES]
                await bounded(self._send(producer, portion), "publishing", PUBLISH_DEADLINE_S)
        except BaseException:
            self._replace(producer)
            raise

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """As `Bus.ensure_topics`."""
        if not topics:
            return
        async with admin_of(self._settings) as admin:
            present = set(await bounded(admin.list_topics(), "listing topics"))
            missing = [spec for spec in topics if spec.name not in present]
            if missing:
                reply = await bounded(admin.create_topics([_new_topic(spec) for spec in missing]), "creating topics")
                _check_created(reply.to_object()["topic_errors"])
            await self._wait_usable(admin, {spec.name for spec in topics})

    async def retain(self, topics: Sequence[TopicSpec]) -> list[str]:
        """As `Bus.retain`."""
        wanted = {spec.name: topic_settings(spec) for spec in topics if not spec.compact}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
        async with admin_of(self._settings) as admin:
            replies = await bounded(admin.describe_configs(resources), "describing topics")
            found = {
                resource["resource_name"]: {e["config_names"]: e["config_value"] for e in resource["config_entries"]}
                for reply in replies
                for resource in reply.to_object()["resources"]
            }
            stale = [n for n, settings in wanted.items() if not settings.items() <= found.get(n, {}).items()]
            if stale:
                changes = [ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted[name]) for name in stale]
                await bounded(admin.alter_configs(changes), "changing the retention of topics")
        return stale

    async def partitions(self, topic: str) -> list[int]:
        """As `Bus.partitions`."""
        return (await self._partitions([topic]))[topic]

    def subscription(self, group: str, gather_ms: int = 0) -> KafkaSubscription:
        """A membership, not yet started."""
        return KafkaSubscription(group, self._settings, self._ends, self._pages, gather_ms, self._session_timeout_ms)

    def reader(self, topics: Sequence[str]) -> KafkaReader:
        """A reader, not yet started."""
        return KafkaReader(topics, self._partitions, self._settings, self._ends)

    async def _partitions(self, topics: Sequence[str]) -> dict[str, list[int]]:
        """Partition numbers of each topic, as the brokers know them now."""
        async with admin_of(self._settings) as admin:
            described = await bounded(admin.describe_topics(list(topics)), "describing topics")
        known = {topic["topic"]: topic for topic in described}
        for name in topics:
            if name not in known or not _usable(known[name]):
                raise UnknownTopic(f"topic {name} does not exist")
        return {name: sorted(p["partition"] for p in known[name]["partitions"]) for name in topics}

    async def _send(self, producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
        """Hand all over in order, then wait for all acknowledgements at once."""
        await asyncio.gather(*await send_packed(producer, messages))

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=MAX_BATCH_BYTES,
                    max_request_size=MAX_MESSAGE_BYTES,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                    compression_type="lz4" if has_lz4() else None,
                    **self._settings,
                )
                try:
                    await bounded(producer.start(), "connecting")
                except BusUnavailable:
                    await self._close(producer)
                    raise
                self._producer = producer
            return self._producer

    def _replace(self, broken: AIOKafkaProducer) -> None:
        """The next publish opens a new producer: after a lost batch the sequence numbers of this one are spoilt."""
        if self._producer is broken:
            self._producer = None
            closing = asyncio.get_running_loop().create_task(self._close(broken))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, producer: AIOKafkaProducer) -> None:
        # stop() flushes first, which never ends while the broker is away: then what nobody waits for is given up.
        await close_client(producer.stop(), producer.client, "closing the producer")
        if producer._sender.sender_task is not None and not producer._sender.sender_task.done():
            producer._sender.sender_task.cancel()

    async def _wait_usable(self, admin: AIOKafkaAdminClient, names: set[str]) -> None:
        """Until every partition has a leader; a fresh topic takes a moment to reach the brokers' metadata."""
        deadline_s = asyncio.get_running_loop().time() + CREATED_DEADLINE_S
        while True:
            described = await bounded(admin.describe_topics(sorted(names)), "describing topics")
            ready = {topic["topic"] for topic in described if _usable(topic)}
            if ready >= names:
                return
            if asyncio.get_running_loop().time() > deadline_s:
                raise BusUnavailable(f"topics {sorted(names - ready)} have no leader after {CREATED_DEADLINE_S:.0f} s")
            await asyncio.sleep(0.02)


def _usable(topic: Mapping[str, Any]) -> bool:
    partitions = topic["partitions"]
    return topic["error_code"] == 0 and bool(partitions) and all(p["leader"] >= 0 for p in partitions)


def _new_topic(spec: TopicSpec) -> NewTopic:
    topic = NewTopic(
        spec.name, num_partitions=spec.partitions, replication_factor=1, topic_configs=topic_settings(spec)
    )
    # The cluster's own default, the operator's choice. aiokafka's constructor knows no such thing; the broker does.
    topic.replication_factor = -1
    return topic


def topic_settings(spec: TopicSpec) -> dict[str, str]:
    """What the broker is told about a topic."""
    settings = {TIME: BROKER_TIME} if spec.broker_time else {}
    if spec.compact:
        # What was replaced is gone within a day: Kafka's own default lets it lie for as long as little changes.
        return settings | {"cleanup.policy": "compact", "max.compaction.lag.ms": str(24 * 3_600_000)}
    if spec.retention_hours is None:
        return settings | {"retention.ms": "-1"}
    roll_ms = segment_hours(spec.retention_hours * 3_600_000_000) * 3_600_000
    return settings | {"retention.ms": _retention_ms(spec), "segment.ms": str(roll_ms)}


def _retention_ms(spec: TopicSpec) -> str:
    return "-1" if spec.retention_hours is None else str(spec.retention_hours * 3_600_000)


def _check_created(errors: Sequence[Mapping[str, Any]]) -> None:
    for entry in errors:
        error = for_code(entry["error_code"])
        if entry["error_code"] and error is not TopicAlreadyExistsError:
            raise BusUnavailable(f"cannot create topic {entry['topic']}: {error.__name__} {entry.get('error_message')}")
