"""Pages escape, drawings escape, buttons are guarded."""

import math
import re
import xml.etree.ElementTree as ElementTree

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.requests import Request
from millrace.runtime.auth import Authenticator
from millrace.runtime.doors import install_http_errors
from millrace.web import guard, pages, svg

NASTY = '<script>alert("x")</script>&'


@pytest.mark.parametrize(
    "drawing",
    [
        svg.sparkline([1, None, math.nan, 3], title=NASTY),
        svg.sparkline([]),
        svg.bars([(NASTY, 3), ("b", math.nan)], title=NASTY),
        svg.line_chart(
            {NASTY: [(0, 1), (1, None), (2, math.inf), (3, 2)]}, marks=[svg.Mark(1, NASTY, NASTY)], steps=True
        ),
        svg.line_chart({}),
        svg.line_chart({"one": [(5, 5)]}, x_is_time_us=False),
        svg.timeline([svg.Mark(1e15, NASTY, "good", NASTY)], title=NASTY),
        svg.timeline([]),
    ],
)
def test_drawings_are_well_formed_and_escape_their_text(drawing):
    ElementTree.fromstring(drawing)
    assert "<script" not in drawing


@pytest.fixture
async def client(tmp_path):
    (tmp_path / "page.html").write_text(
        '{% extends "base.html" %}{% block content %}<form method="post">{{ csrf_field }}</form>'
        "{{ name }} {{ 1372636800000000|time }} {{ 10800000000|duration }} {{ 0.1234|percent }} {{ 12345|number }}"
        "{{ svg.sparkline([1, 2]) }}{% endblock %}"
    )
    app = FastAPI()
    install_http_errors(app, Authenticator({}))
    made = pages(tmp_path, "toy", [("Models", "/models"), ("Home", "/")])
    made.mount(app)

    @app.get("/")
    async def home(request: Request):
        return made.render(request, "page.html", name=NASTY)

    @app.post("/", dependencies=[Depends(guard)])
    async def act():
        return {"done": True}

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


async def test_a_page_is_on_the_base_layout_and_escapes(client):
    page = await client.get("/")
    assert "<script" not in page.text and "2013-07-01 00:00:00 3h 12.3 % 12,345" in page.text
    assert 'aria-current="page"' in page.text and "default-src 'self'" in page.headers["content-security-policy"]
    assert (await client.get("/static/millrace/millrace.css")).status_code == 200
    assert "http" not in re.sub(r'xmlns="[^"]+"', "", page.text)  # nothing from elsewhere


async def test_buttons_need_the_token_of_the_page_and_the_same_origin(client):
    assert (await client.post("/")).status_code == 403
    token = re.search(r'name="csrf" value="([^"]+)"', (await client.get("/")).text)[1]
    assert (await client.post("/", data={"csrf": token})).status_code == 200
    assert (await client.post("/", headers={"x-csrf-token": token})).status_code == 200
    assert (await client.post("/", data={"csrf": "wrong"})).status_code == 403
    for header in ({"origin": "http://evil"}, {"sec-fetch-site": "cross-site"}):
        assert (await client.post("/", data={"csrf": token}, headers=header)).status_code == 403
    assert (await client.post("/", headers={"authorization": "Bearer x"})).status_code == 200


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 12], ["0", "5", "10", "15"]),  # counts begin at nothing, and none is below it
        ([12, 12], ["0", "5", "10", "15"]),
        ([0, 0], ["0.0", "0.5", "1.0"]),
        ([-3, 4], ["-4", "-2", "0", "2", "4"]),
        ([1053.2, 1054.1], ["1,053.0", "1,053.5", "1,054.0", "1,054.5"]),
        ([2e-9, 3e-9], ["2e-09", "2.5e-09", "3e-09"]),
    ],
)
def test_the_lines_across_a_chart_are_at_round_values(values, ticks):
    drawing = ElementTree.fromstring(str(svg.line_chart({"one": list(enumerate(values))}, x_is_time_us=False)))
    texts = [(float(e.get("x")), e.text) for e in drawing.iter() if e.get("class") == "tick end"]
    leftmost = min(x for x, _ in texts)
    assert [text for x, text in texts if x == leftmost] == ticks
