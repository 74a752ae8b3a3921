"""The two faults: a model that is wrong and loads, and an upstream that changes its unit for a while."""

import msgspec
import numpy as np
from millrace.client.replay import ReplayEvent

from examples.flights.demo.faults import delays_in_seconds, inverted
from examples.flights.demo.report import scorer
from tests.support.onnx_models import classifier

MODEL = classifier({"distance": 0.5, "hour": -0.2}, {"carrier": {"UA": 0.7, "B6": -1.0}}, bias=0.1)
ROWS = [
    {"distance": 1.0, "hour": 3.0, "carrier": "UA"},
    {"distance": None, "hour": 8.0, "carrier": "B6"},
    {"distance": 4.0, "hour": 0.0, "carrier": None},
]


def test_a_model_is_scored_from_raw_columns_as_it_was_made() -> None:
    by_hand = [0.1 + 0.5 - 0.6 + 0.7, 0.1 - 1.6 - 1.0, 0.1 + 2.0]
    np.testing.assert_allclose(scorer(MODEL)(ROWS), 1 / (1 + np.exp(-np.array(by_hand))), rtol=1e-5)


def test_the_inverted_model_answers_one_minus_p() -> None:
    honest, wrong = scorer(MODEL)(ROWS), scorer(inverted(MODEL))(ROWS)
    assert len(set(honest.round(3))) == 3
    np.testing.assert_allclose(wrong, 1 - honest, rtol=1e-5)


def event(at: int, source: str, delay: float) -> ReplayEvent:
    name = "departure_delay" if source == "departures" else "arrival_delay"
    body = {"flight_id": f"f{at}", name: delay, "origin": "JFK"}
    return ReplayEvent(at, source, msgspec.json.encode(body), f"{source}:f{at}")


def test_only_departures_of_the_span_state_seconds() -> None:
    recorded = [event(at, "departures", -2.5) for at in (9, 10, 19, 20)] + [event(15, "arrivals", 7.0)]
    told = list(delays_in_seconds(recorded, 10, 20))
    assert [(e.available_us, e.source, e.id) for e in told] == [(e.available_us, e.source, e.id) for e in recorded]
    bodies = [msgspec.json.decode(e.json) for e in told]
    assert [b.get("departure_delay") for b in bodies] == [-2.5, -150.0, -150.0, -2.5, None]
    assert bodies[4]["arrival_delay"] == 7.0
    assert {b["origin"] for b in bodies} == {"JFK"}
    assert [told[n].json == recorded[n].json for n in range(5)] == [True, False, False, True, True]
