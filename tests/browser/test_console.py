"""The console in headless Chromium: the real room over a bus in memory and the real ClickHouse.

`MILLRACE_SCREENSHOT=1` writes docs/images/console.png.
"""

import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from millrace.wire.common.v1.common_pb2 import RoomStatus
from millrace.wire.registry.v1.events_pb2 import ModelCommand

from tests.integration.monitor.world import (
    DAY_US,
    HOUR_US,
    START_US,
    FakeFleet,
    champion,
    served_world,
    warm,
)
from tests.support.poll import until

pytestmark = [pytest.mark.stack, pytest.mark.browser]

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = os.environ.get("MILLRACE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")


@asynccontextmanager
async def browser_page(width, height):
    """A page of the system's Chromium; whatever it says on its console is an error of the test."""
    playwright = pytest.importorskip("playwright.async_api", reason="the Python package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (MILLRACE_CHROMIUM may name one)")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = await browser.new_page(viewport={"width": width, "height": height})
            page.problems = []
            page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            yield page
        finally:
            await browser.close()


async def refreshed(page):
    """The page has fetched its parts twice. (`wait_for_function` evaluates text, which the page's policy forbids.)"""

    async def rounds():
        return int(await page.get_attribute("#console", "data-rounds") or 0) >= 2

    await until(rounds, 20)


def fleet():
    statuses = {
        room: RoomStatus(room=room, ready=True, handled_records=1000 * i, lag_records=i, http_address="127.0.0.1:1")
        for i, room in enumerate(ROOMS, start=1)
    }
    statuses["trainer"].reasons.append("one run waits for the cooldown")
    statuses["inference"] = None
    return FakeFleet(statuses)


async def story(w):
    """A champion, its challenger that was forced and is worse, three weeks of labels."""
    await w.define()
    run = await w.run_passed("run-1", "sha256:snapshot-1")
    first = await w.move(1, "champion", "released", START_US, 1, cause=run, run_id="run-1")
    await w.plan(1, champion(1), cause=first)
    await w.clock(START_US)
    for day in range(21):
        at = list(range(START_US + day * DAY_US, START_US + (day + 1) * DAY_US, 30 * 60_000_000))
        truth = (w.random.random(len(at)) < 0.5).astype(float)
        await w.predict(at, {1: "fair"}, truth, epoch=1)
        await w.label(at, truth)
    await w.clock(START_US + 21 * DAY_US)
    now_us = START_US + 21 * DAY_US
    forced = await w.move(2, "champion", "forced", now_us, 2, actor="eve", other_version=1, reason="it looked fine")
    await w.plan(2, champion(2, "sha256:two"), warm(1), cause=forced)
    at = list(range(now_us, now_us + 5 * HOUR_US, 60_000_000))
    truth = (w.random.random(len(at)) < 0.5).astype(float)
    await w.predict(at, {2: "bad", 1: "good"}, truth, epoch=2)
    await w.clock(now_us + 6 * HOUR_US)


async def test_what_is_awaited_is_said_before_there_is_anything(stack, tmp_path):
    async with served_world(stack.clickhouse, tmp_path) as w, browser_page(1280, 900) as page:
        await page.goto(w.http)
        text = await page.inner_text("main")
        for awaited in ("No project yet", "No model serves yet", "Nothing has raised an alert", "appear here as they"):
            assert awaited in text
        await refreshed(page)
        assert page.problems == []


async def test_the_console_shows_the_loop_and_rolls_back(stack, tmp_path):
    async with served_world(stack.clickhouse, tmp_path, fleet()) as w, browser_page(1280, 1000) as page:
        await story(w)
        await page.goto(w.http)
        await refreshed(page)
        assert await page.locator(".room-box").count() == 7
        assert "does not answer" in await page.text_content("[data-room=inference]")
        assert "one run waits for the cooldown" in await page.inner_text("main")
        assert await page.locator(".closer a").all_inner_texts() == ["features", "models"]
        assert "champion" in await page.inner_text("#models tbody tr:first-child")
        assert "release" in await page.inner_text("#alerts tbody tr:first-child")
        assert await page.locator("svg.chart path.line").count() >= 1
        assert await page.locator("svg.timeline circle").count() >= 2
        if os.environ.get("MILLRACE_SCREENSHOT"):
            target = REPOSITORY / "docs" / "images" / "console.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            await page.screenshot(path=target, full_page=True)

        await page.click("#alerts tbody tr:first-child a")
        chain = await page.inner_text(".chain")
        assert "firing" in chain and "v2 forced" in chain and "by eve" in chain and "epoch >= 2" in chain

        await page.goto(w.http)
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("text=Roll back to v1")
        await page.wait_for_url(w.http + "/")
        commands = [c for c in w.said("models.commands", ModelCommand) if c.actor == "local"]
        assert [(c.verb, c.version, c.target_version) for c in commands] == [(ModelCommand.ROLLBACK, 2, 1)]
        assert page.problems == []


async def test_it_fits_a_phone(stack, tmp_path):
    async with served_world(stack.clickhouse, tmp_path, fleet()) as w, browser_page(390, 844) as page:
        await story(w)
        for path in ("/", "/events", "/reports"):
            await page.goto(w.http + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
