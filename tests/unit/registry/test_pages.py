"""The pages show what is stored, and nothing of it as markup."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from millrace.runtime.auth import Authenticator
from millrace.runtime.doors import install_http_errors
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Superseded

from services.registry.entrypoints.rest import ModelPages
from services.registry.handlers.forgetting import Forgetting
from tests.contract.registry.test_gate_report import written
from tests.unit.registry.desk import MODEL, Room


@pytest.fixture
async def client(room: Room):
    app = FastAPI()
    install_http_errors(app, Authenticator({}))
    ModelPages(room.desk).mount(app)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry", follow_redirects=True) as client:
        yield client


async def test_the_list_names_every_model(room: Room, client: httpx.AsyncClient):
    assert "nothing yet" in (await client.get("/")).text
    await room.run("one")
    assert "version 1" in (await client.get("/models")).text


async def test_versions_and_lineage(room: Room, client: httpx.AsyncClient):
    await room.run("one")
    await room.run("<b>two</b>", champion=1)
    page = (await client.get(f"/models/parcels/{MODEL}")).text
    assert "canary 20%" in page and "auc 0.7" in page
    page = (await client.get(f"/models/parcels/{MODEL}/2")).text
    assert "sha256:snapshot" in page and "&lt;b&gt;two&lt;/b&gt;" in page and "<b>two" not in page


async def test_a_version_shows_what_its_gate_asked_and_found(room: Room, client: httpx.AsyncClient):
    report = await room.objects.put(written())
    await room.run("one", report=report)
    page = (await client.get(f"/models/parcels/{MODEL}/1")).text
    assert "What the gate asked" in page and "judged by 1.5 times" in page
    assert "slice floor: kind" in page and "auc of 2 of 2 slices is shown to be worse than the floor 0.99" in page
    assert "auc by kind" in page and "too few" in page and "x is -1" in page and "stability index" in page


async def test_a_report_that_is_gone_or_damaged_is_told_and_the_rest_is_shown(room: Room, client: httpx.AsyncClient):
    await room.run("one", report=f"sha256:{'0' * 64}")
    await room.run("two", champion=1, report=await room.objects.put(b"no report"))
    for version in (1, 2):
        answer = await client.get(f"/models/parcels/{MODEL}/{version}")
        assert answer.status_code == 200 and "its report cannot be shown: " in answer.text
        assert "What happened to it" in answer.text


async def test_a_version_trained_on_what_was_forgotten_says_so(room: Room, client: httpx.AsyncClient):
    await room.run("one")
    obey = Forgetting(room.desk).obey
    request = Forget(id="f-1", phase=Forget.SWEPT, snapshots=[Superseded(digest="sha256:snapshot", by="sha256:newer")])
    (store,) = (await obey(request)).stores
    assert (store.deleted, store.how) == (1, f"{MODEL} 1")
    await obey(request)
    await room.run("two", champion=1)  # a run that was under way learned from it as well
    for version in (1, 2):
        page = (await client.get(f"/models/parcels/{MODEL}/{version}")).text
        assert "trained on data that was forgotten since (request f-1): sha256:newer took its place" in page


@pytest.mark.parametrize("path", ["/models/parcels/other", f"/models/other/{MODEL}", f"/models/parcels/{MODEL}/7"])
async def test_unknown_things_are_not_found(client: httpx.AsyncClient, path: str):
    assert (await client.get(path)).status_code == 404
