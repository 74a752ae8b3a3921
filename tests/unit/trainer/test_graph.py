"""The graph answers as the net does, on raw columns."""

import numpy as np
import onnx
import pytest

from services.trainer.adapters.checkpoints_safetensors import Checkpoints
from services.trainer.adapters.graph_onnx import Head, build_graph
from services.trainer.adapters.network_torch import Trainer, scores
from services.trainer.adapters.scorer_onnxruntime import Scorer
from services.trainer.domain.calibration import Calibration, fit_temperature, sigmoid
from services.trainer.domain.encoding import encode_rows, learn_encoding
from services.trainer.domain.examples import ColumnSpec
from services.trainer.domain.job import NetSettings

INPUTS = (
    ColumnSpec("view.kind", "BYTES"),
    ColumnSpec("view.x", "FP32"),
    ColumnSpec("z", "FP32"),
    ColumnSpec("q", "BYTES"),
)


def columns(rows: int, seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    x = random.normal(50, 20, rows).astype(np.float32)
    x[::7] = np.nan
    return {
        "view.kind": random.choice(["a", "b", "Ünïcode", ""], rows).astype(object),
        "view.x": x,
        "z": random.exponential(3, rows).astype(np.float32),
        "q": random.choice(["u", "v"], rows).astype(object),
    }


def strange() -> dict:
    """Values that training never saw: unknown and empty strings, NaN, infinities, far numbers."""
    return {
        "view.kind": np.array(["never seen", "", "a", "A", "b"], dtype=object),
        "view.x": np.array([np.nan, np.inf, -np.inf, 1e30, 50], dtype=np.float32),
        "z": np.array([np.nan, np.nan, -5, 0, 3], dtype=np.float32),
        "q": np.array(["", "w", "u", "v", ""], dtype=object),
    }


def net_of(kind: str, **changes: object) -> NetSettings:
    settings = {"hidden": (8, 4), "epochs": 2, "learning_rate": 0.05, "batch_size": 64, "seed": 3}
    return NetSettings(kind=kind, **settings | changes)


def fitted(tmp_path, settings, inputs, data, target, *, binary):
    encoding = learn_encoding(data, inputs)
    rows = encode_rows(encoding, data, target)
    trainer = Trainer(settings, binary=binary, checkpoints=Checkpoints(tmp_path, "x"), threads=1)
    return encoding, trainer.fit(rows, rows, [s.size for s in encoding.strings], lambda point: None).weights


@pytest.mark.parametrize("kind", ["linear", "mlp", "wide-and-deep"])
@pytest.mark.parametrize("binary", [True, False])
def test_graph_equals_net(tmp_path, kind, binary):
    data = columns(400)
    target = (data["z"] > 2).astype(float) if binary else (data["z"] - 2.0).astype(float)
    settings = net_of(kind)
    encoding, weights = fitted(tmp_path, settings, INPUTS, data, target, binary=binary)
    head = Head(binary, Calibration(0.8), mean=7.0, scale=3.0)
    graph = build_graph(encoding, settings, weights, head)
    for case in (data, strange()):
        raw = scores(settings, weights, encode_rows(encoding, case, np.zeros(len(case["z"])))).astype(float)
        expected = sigmoid(0.8 * raw) if binary else raw * 3.0 + 7.0
        answers = Scorer(graph).score(case)
        assert np.isfinite(answers).all()
        assert np.abs(answers - expected).max() < 1e-5 * (1 if binary else 3)


def test_the_graph_keeps_the_contract(tmp_path):
    data = columns(200)
    settings = net_of("wide-and-deep")
    encoding, weights = fitted(tmp_path, settings, INPUTS, data, (data["z"] > 2).astype(float), binary=True)
    graph = build_graph(encoding, settings, weights, Head(binary=True))
    assert graph == build_graph(encoding, settings, weights, Head(binary=True))
    model = onnx.load_model_from_string(graph)
    types = {i.name: (i.type.tensor_type.elem_type, len(i.type.tensor_type.shape.dim)) for i in model.graph.input}
    floats, strings = onnx.TensorProto.FLOAT, onnx.TensorProto.STRING
    assert types == {"view.kind": (strings, 1), "view.x": (floats, 1), "z": (floats, 1), "q": (strings, 1)}
    assert [output.name for output in model.graph.output] == ["probability"]
    one_row = {name: values[:1] for name, values in data.items()}
    assert Scorer(graph).score(one_row).shape == (1,)


@pytest.mark.parametrize("kept", [("FP32",), ("BYTES",)])
def test_only_numbers_or_only_strings_will_do(tmp_path, kept):
    inputs = tuple(i for i in INPUTS if i.datatype in kept)
    data = {i.name: columns(300)[i.name] for i in inputs}
    settings = net_of("wide-and-deep", hidden=())
    encoding, weights = fitted(tmp_path, settings, inputs, data, np.arange(300) % 2.0, binary=True)
    raw = scores(settings, weights, encode_rows(encoding, data, np.zeros(300))).astype(float)
    graph = build_graph(encoding, settings, weights, Head(binary=True))
    assert np.abs(Scorer(graph).score(data) - sigmoid(raw)).max() < 1e-5


def test_columns_without_any_value_or_spread_do_no_harm(tmp_path):
    data = {**columns(100), "view.x": np.full(100, np.nan, np.float32), "z": np.full(100, 4.0, np.float32)}
    settings = net_of("mlp")
    encoding, weights = fitted(tmp_path, settings, INPUTS, data, np.arange(100) % 2.0, binary=True)
    assert np.isfinite(Scorer(build_graph(encoding, settings, weights, Head(binary=True))).score(strange())).all()


def test_rare_strings_share_the_bucket_of_the_unknown():
    values = np.array(["often"] * 10 + ["once"] + [""] * 4, dtype=object)
    encoding = learn_encoding({"q": values}, [ColumnSpec("q", "BYTES")])
    codes = encoding.encode({"q": np.array(["often", "once", "never", ""], dtype=object)})[1][:, 0]
    assert codes.tolist() == [2, 0, 0, 1]


def test_temperature_finds_the_slope_and_leaves_one_class_alone():
    random = np.random.default_rng(0)
    score = random.normal(size=20_000) * 2
    labels = (random.random(20_000) < sigmoid(0.5 * score)).astype(float)
    assert fit_temperature(score, labels).slope == pytest.approx(0.5, abs=0.03)
    assert fit_temperature(score, np.ones(20_000)).slope == 1.0
