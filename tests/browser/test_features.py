"""The feature store's pages in headless Chromium: the real room over a bus in memory and a real Valkey.

`MILLRACE_SCREENSHOT=folder` writes pictures of them there.
"""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from millrace.bus.events import Event, Message
from millrace.definitions import digest, load_text, to_canonical_json
from millrace.runtime.definitions import DefinitionBook
from millrace.runtime.room import RoomProcess
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from services.feature_store.bootstrap import join
from services.feature_store.domain.lineage import ModelVersion
from services.feature_store.settings import Settings
from tests.browser.test_console import browser_page
from tests.support.poll import until
from tests.unit.feature_store.conftest import redis_client, valkey_url
from tests.unit.feature_store.test_pages import SAID, filled
from tests.unit.feature_store.world import make

__all__ = ["redis_client", "valkey_url"]
pytestmark = pytest.mark.browser


@asynccontextmanager
async def served(client, home: Path):
    """The room with its doors, fed with an hour of events; the address of its pages."""
    world = await make(client)
    project = load_text(SAID)
    room = RoomProcess("feature_store", Settings(home=home))
    join(room, world.store, DefinitionBook(world.bus))
    world.models.known = [
        ModelVersion("late-payment", n, "champion" if n == 9 else "retired", 2) for n in range(9, 0, -1)
    ]
    world.models.projects[2] = project
    body = DefinitionPublished(
        project="shop", version=2, digest=digest(project), canonical_json=to_canonical_json(project)
    )
    content = Event("definition-2", "millrace.registry.definition.published.v1", "test", body.SerializeToString())
    running = asyncio.create_task(room.run())
    try:
        await until(lambda: running.done() or room.status.started, 30)
        await world.bus.publish([Message("definitions", content, key=b"shop")])
        await until(lambda: world.store.feeds.project("shop").definition.version == 2, 10)
        await filled(world)
        yield f"http://{room.status.http_address}"
    finally:
        room.request_stop()
        await running


async def keep(page, name: str) -> None:
    """A picture, where somebody wants one."""
    if folder := os.environ.get("MILLRACE_SCREENSHOT"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def test_a_feature_is_found_and_followed_by_keyboard_alone(redis_client, tmp_path):
    async with served(redis_client, tmp_path) as http, browser_page(1280, 900) as page:
        await page.goto(http)
        await keep(page, "features")
        await page.focus("input[type=search]")
        await page.keyboard.type("postage")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/features?search=postage")
        assert await page.locator("tbody tr").count() == 1
        await page.focus("input[type=search]")
        for _ in range(6):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == "order.amount":
                break
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/features/shop/order.amount")
        await page.fill("#key", "o7")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**?key=o7")
        assert "7.0" in await page.inner_text("p[role=status]")
        assert await page.locator("svg.graph .box").count() == 3 + 1 + 3 + 6
        await keep(page, "feature")
        await page.locator("svg.graph a").first.focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/services#*")
        await keep(page, "services")
        await page.click("nav >> text=Freshness and cost")
        await page.wait_for_url("**/freshness")
        await keep(page, "freshness")
        await page.click("nav >> text=Online against history")
        await page.wait_for_url("**/consistency")
        await keep(page, "consistency")
        assert await page.locator("nav a").count() == 4
        assert page.problems == []


async def test_the_pages_fit_a_phone(redis_client, tmp_path):
    async with served(redis_client, tmp_path) as http, browser_page(390, 844) as page:
        for name in (
            "features",
            "features/shop/order.customer",
            "services",
            "freshness",
            "consistency",
            "features?search=nothing",
        ):
            await page.goto(f"{http}/{name}")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390, name
            await keep(page, "phone-" + name.replace("/", "-").partition("?")[0])
        assert page.problems == []
