"""The pages: search, lineage, statistics, services. What is stored is never markup; a neighbour may be away."""

import re
import xml.etree.ElementTree as ElementTree

import httpx
import pytest
from fastapi import FastAPI
from millrace.definitions.load import load_text
from millrace.runtime.auth import Authenticator
from millrace.runtime.doors import install_http_errors
from millrace.web import graph, svg

from services.feature_store.domain.lineage import ModelVersion
from services.feature_store.entrypoints.rest import FeaturePages
from tests.support.poll import until
from tests.unit.feature_store.test_choices import RICHER
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, make, order, payment, running

AT_US = START_US + HOUR_US
NASTY = '<script>alert("x")</script>'
SAID = RICHER.replace(
    "  order@1:\n", "  order@1:\n    description: What was asked <b>for</b>\n    tags: [desk]\n", 1
).replace("    ttl: 2d\n", "    columns: {amount: {description: Price & postage, owner: ann}}\n    ttl: 2d\n", 1)


@pytest.fixture
async def world(redis_client):
    made = await make(redis_client)
    await made.learn(load_text(SAID), 2)
    made.models.known = [
        ModelVersion("late-payment", 2, "champion", 2),
        ModelVersion("late-payment", 1, "rejected", 1),
    ]
    return made


@pytest.fixture
async def client(world):
    app = FastAPI()
    install_http_errors(app, Authenticator({}))
    FeaturePages(world.store.catalogue, "console:1").mount(app)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://features", follow_redirects=True) as made:
        yield made


async def text(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    return answer.text


async def filled(world, customer: str = "ann") -> None:
    await world.publish(
        *(order(n, START_US + n * MINUTE_US, customer=customer, amount=float(n)) for n in range(1, 31)),
        *(payment(n, START_US + n * MINUTE_US, float(n)) for n in range(10)),
        until_us=AT_US,
    )
    await until(lambda: world.store.watermarks_us().get("shop", 0) >= AT_US, 10)


async def test_features_are_listed_and_found_by_any_word(world, client):
    page = await text(client, "/")
    assert "order.amount" in page and "tills.delay" in page and "Price &amp; postage" in page
    assert "What was asked &lt;b&gt;for&lt;/b&gt;" in page and "<b>for" not in page
    assert 'href="http://console:1/"' in page
    page = await text(client, "/features?search=POSTAGE")
    total = sum(len(view.columns) for view in world.project.views)
    assert "order.amount" in page and "order.customer" not in page and f"1 of {total} features" in page
    page = await text(client, f"/features?search={NASTY}")
    assert "&lt;script&gt;" in page and "<script" not in page and f"0 of {total}" in page


async def test_a_feature_shows_where_it_comes_from_and_goes_to(world, client):
    page = await text(client, "/features/shop/order.customer")
    (drawing,) = re.findall(r'<svg class="graph".*?</svg>', page, re.S)
    names = [one.text for one in ElementTree.fromstring(drawing).iter() if one.get("class") == "name"]
    assert names == [
        "customer", "order_id", "placed_at", "order.customer", "late-payment", "desk@1",
        "late-payment v2", "late-payment v1",
    ]  # fmt: skip
    assert 'href="/services#desk%401"' in drawing and drawing.count("<path") == 7
    assert "2 model versions read order@1" in page
    world.models.problem = "the registry is <away>"
    page = await text(client, "/features/shop/order.customer")
    assert "not known: the registry is &lt;away&gt;" in page


async def test_a_feature_shows_what_the_store_holds_and_reads_one_key(world, client):
    page = await text(client, "/features/shop/order.amount")
    assert "holds nothing of order@1 yet" in page
    async with running(world):
        await filled(world, customer=NASTY)
        world.store.statistics.forget("shop", "order@1")
        page = await text(client, "/features/shop/order.amount?key=o7")
        assert "Present 100.0 %" in page and "of 30 keys of order_id" in page
        assert page.count('<rect class="bar') == 20 and "15.5 ± 8.66" in page and "1 to 30" in page
        assert '<strong class="mono">7.0</strong>, 53 m old' in page
        assert "missing" in await text(client, "/features/shop/order.amount?key=o700")
        assert "at most 500 characters" in await text(client, f"/features/shop/order.amount?key={'k' * 501}")
        page = await text(client, "/features/shop/order.customer?key=o7")
        assert "&lt;script&gt;" in page and "<script" not in page
        page = await text(client, "/freshness")
        assert "order@1" in page and re.search(r'<td class="number">30</td>\s*<td class="number">30</td>', page)


async def test_services_are_shown(world, client):
    page = await text(client, "/services")
    assert 'id="desk@1"' in page and "theirs.delay_sum_1h" in page and 'id="late-payment"' in page


@pytest.mark.parametrize(
    "path", ["/features/shop/order.nothing", "/features/other/order.amount", "/features/shop/x%00"]
)
async def test_unknown_things_are_not_found(client, path):
    answer = await client.get(f"/features/{path}")
    assert answer.status_code == 404, answer.text


async def test_pages_stand_while_the_store_is_away(world, client, redis_client):
    async def gone(*_, **__):
        raise ConnectionError("gone away")

    redis_client.execute_command = gone
    assert "the online store: gone away" in await text(client, "/freshness")
    page = await text(client, "/features/shop/order.amount?key=o1")
    assert page.count("the online store: gone away") == 2 and "order_id" in page


async def test_before_there_is_a_project_the_pages_say_what_to_do(world, client):
    await world.store.learn("shop", None)
    for path in ("/features", "/services", "/freshness"):
        assert "millrace apply project.yaml" in await text(client, path)


@pytest.mark.parametrize(
    "drawing",
    [
        graph.columns([], [], title=NASTY),
        graph.columns([[graph.Box(NASTY, NASTY, NASTY, NASTY, f"/?{NASTY}")], []], [], title=NASTY),
        graph.columns([[graph.Box("a", "a" * 99)], [graph.Box("b", "b")]], [graph.Link("a", "b", NASTY)], title="t"),
        graph.columns([[graph.Box("a", "a")]], [graph.Link("a", "nowhere")], title="t"),
        svg.histogram([0, 1, 2], [3, 0], title=NASTY),
        svg.histogram([], []),
        svg.histogram([1, 1], [5]),
    ],
)
def test_drawings_are_well_formed_and_escape_their_text(drawing):
    ElementTree.fromstring(drawing)
    assert "<script" not in drawing
