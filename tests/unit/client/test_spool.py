"""A producer's spool: what the platform does not take waits on the disk, in order, whatever happens to the producer."""

import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import grpc
import pytest
from millrace.client.errors import CallFailed, SpoolFull, SpoolTaken
from millrace.client.producer import Producer, SyncProducer
from millrace.client.spool import Spool
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc

from infra.embedded.ports import free_ports
from tests.support.poll import until, until_sync


class Door(service_pb2_grpc.IngestionServicer):
    """Takes every event, or refuses the whole call."""

    def __init__(self, code=None):
        self.taken = []
        self.code = code

    async def Publish(self, request, context):
        if self.code is not None:
            await context.abort(self.code, "refused")
        self.taken += [(request.source, event.json.decode()) for event in request.events]
        return service_pb2.PublishReply(accepted=len(request.events))


@pytest.fixture
def port():
    return free_ports(1)[0]


@asynccontextmanager
async def serving(port, door):
    server = grpc.aio.server()
    service_pb2_grpc.add_IngestionServicer_to_server(door, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield door
    await server.stop(None)


def producer(port, folder, **options):
    return Producer(f"127.0.0.1:{port}", "plant", spool=folder, deadline_s=0.2, batch_events=3, **options)


async def test_what_an_absent_platform_did_not_take_is_handed_over_in_order_when_it_is_back(port, tmp_path):
    async with producer(port, tmp_path) as first:
        told = await first.publish("readings", [{"n": n} for n in range(7)])
        assert (told.spooled, told.accepted, first.waiting) == (7, 0, 7)
        assert (await first.publish("repairs", [{"n": 7}])).spooled == 1
        await until(lambda: "UNAVAILABLE" in first.problem or "DEADLINE" in first.problem, 20)
        assert not await first.flush(0.1)
    door = Door()
    async with producer(port, tmp_path) as second, serving(port, door):  # a new process, the same folder
        assert second.waiting == 8
        late = await second.publish("readings", [{"n": 8}])
        assert late.accepted + late.spooled == 1
        assert await second.flush(60)
        assert [text for source, text in door.taken if source == "readings"] == [f'{{"n":{n}}}' for n in (*range(7), 8)]
        assert ("repairs", '{"n":7}') in door.taken and second.problem == ""
        assert second.handed_over.accepted == 8 + late.spooled
        assert (await second.publish("readings", [{"n": 9}])).accepted == 1  # nothing waits: straight through
    assert Spool(tmp_path / "plant.db").waiting == 0


async def test_a_refusal_that_a_repeat_cannot_mend_is_raised_and_not_spooled(port, tmp_path):
    async with serving(port, Door(grpc.StatusCode.NOT_FOUND)), producer(port, tmp_path) as made:
        with pytest.raises(CallFailed, match="NOT_FOUND"):
            await made.publish("readings", [{}])
        assert made.waiting == 0


async def test_a_full_spool_takes_all_of_a_batch_or_nothing_and_says_so(port, tmp_path):
    async with producer(port, tmp_path, spool_max_bytes=100) as made:
        assert (await made.publish("readings", [{"n": 1}])).spooled == 1
        with pytest.raises(SpoolFull, match=r"1 events wait .* 3 more .* 100 bytes"):
            await made.publish("readings", [{"text": "x" * 40}] * 3)
        assert made.waiting == 1


def test_a_spool_has_one_owner(tmp_path):
    spool = Spool(tmp_path / "a.db")
    with pytest.raises(SpoolTaken, match="another producer has it"):
        Spool(tmp_path / "a.db")
    spool.close()
    Spool(tmp_path / "a.db").close()


async def test_large_events_are_handed_over_in_calls_that_the_platform_takes(port, tmp_path):
    door = Door()
    async with producer(port, tmp_path) as made:
        large = [{"n": n, "text": "x" * 140_000} for n in range(100)]  # 14 MB: more than one call carries
        assert (await made.publish("readings", large)).spooled == 100
        async with serving(port, door):
            assert await made.flush(60)
        assert made.handed_over.accepted == 100 and made.problem == ""
    assert [json.loads(text)["n"] for _, text in door.taken] == list(range(100))


def test_what_was_said_to_be_spooled_survives_a_kill(port, tmp_path):
    script = (
        "import pathlib, sys\n"
        "from millrace.client.producer import SyncProducer\n"
        "with SyncProducer(sys.argv[1], 'plant', spool=pathlib.Path(sys.argv[2]), deadline_s=0.05) as p:\n"
        "    n = 0\n"
        "    while True:\n"
        "        n += p.publish('readings', [{'n': n + i} for i in range(5)]).spooled\n"
        "        print(n, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, f"127.0.0.1:{port}", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    said = [int(child.stdout.readline()) for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    said += [int(line) for line in rest.split("\n")[:-1]]
    spool = Spool(tmp_path / "plant.db")
    assert spool.waiting >= said[-1] >= 100
    head = spool.head(10_000, 10**6)
    assert [event.json for event in head.events] == [b'{"n":%d}' % n for n in range(spool.waiting)]
    spool.close()


def test_the_blocking_producer_hands_over_what_an_earlier_one_left(port, tmp_path):
    options = {"spool": tmp_path, "deadline_s": 0.2}
    with SyncProducer(f"127.0.0.1:{port}", "plant", **options) as made:
        assert made.publish("readings", [{"n": 1}]).spooled == 1
    with SyncProducer(f"127.0.0.1:{port}", "plant", **options) as made:
        until_sync(lambda: made.waiting == 1, 5)
        assert not made.flush(0.05)


@pytest.fixture
def signed(tmp_path):
    """(key, certificate) of this machine's loopback address, signed by itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


async def test_a_producer_speaks_tls_with_whom_its_certificates_vouch_for(signed):
    key, certificate = signed
    door, server = Door(), grpc.aio.server()
    service_pb2_grpc.add_IngestionServicer_to_server(door, server)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    try:
        async with Producer(address, "plant", tls_ca=certificate) as made:
            assert (await made.publish("readings", [{"n": 1}])).accepted == 1
        async with Producer(address, "plant", deadline_s=0.5) as plain:
            with pytest.raises(CallFailed):
                await plain.publish("readings", [{"n": 2}])
    finally:
        await server.stop(None)
    assert door.taken == [("readings", '{"n":1}')]
