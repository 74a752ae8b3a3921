"""The Open Inference Protocol as tritonclient's ordinary gRPC client speaks it, sync and asyncio, and over HTTP."""

import asyncio
import math

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from millrace import oip
from onnx import TensorProto
from tritonclient.utils import InferenceServerException

from tests.support import onnx_models
from tests.support.poll import until
from tests.unit.inference.world import MODEL, linear, world


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture
async def shop(tmp_path):
    async with world(tmp_path) as made:
        model = linear(0.5, {"v.x": 1.0}, {"v.colour": {"red": 1.0}})
        await made.released(
            made.variant(1, model),
            made.variant(2, linear(-2.0, {"v.x": 1.0}, {"v.colour": {"red": 0.0}}), role="canary", weight=0.5),
        )
        yield made


@pytest.fixture
async def client(shop):
    async with triton_aio.InferenceServerClient(shop.room.status.grpc_address) as made:
        yield made


def tensors(x=(1.0, math.nan), colours=("red", "blue")):
    number = triton.InferInput("v.x", [len(x)], "FP32")
    number.set_data_from_numpy(np.array(x, np.float32))
    text = triton.InferInput("v.colour", [len(colours)], "BYTES")
    text.set_data_from_numpy(np.array([c.encode() for c in colours], dtype=object))
    return [number, text]


async def test_every_call_of_the_sync_client(shop):
    def talk(address):
        with triton.InferenceServerClient(address) as client:
            assert client.is_server_live() and client.is_server_ready()
            assert client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "2")
            assert not client.is_model_ready(MODEL, "9") and not client.is_model_ready("nobody")
            assert client.get_server_metadata().name == "millrace"
            metadata = client.get_model_metadata(MODEL)
            assert (metadata.name, metadata.platform, list(metadata.versions)) == (
                MODEL,
                "onnxruntime_onnx",
                ["1", "2"],
            )
            told = [(t.name, t.datatype, list(t.shape)) for t in (*metadata.inputs, *metadata.outputs)]
            assert told == [("v.x", "FP32", [-1]), ("v.colour", "BYTES", [-1]), ("probability", "FP32", [-1])]
            config = client.get_model_config(MODEL, as_json=True)["config"]
            assert config["input"][1] == {"name": "v.colour", "data_type": "TYPE_STRING", "dims": ["-1"]}
            index = client.get_model_repository_index()
            assert [(m.name, m.version, m.state) for m in index.models] == [
                (MODEL, "1", "READY"),
                (MODEL, "2", "READY"),
            ]
            result = client.infer(MODEL, tensors(), model_version="1", request_id="7")
            return result.as_numpy("probability"), result.get_response(as_json=True)

    values, response = await asyncio.to_thread(talk, shop.room.status.grpc_address)
    assert values.tolist() == pytest.approx([sigmoid(2.5), sigmoid(0.5)], abs=1e-6)
    assert (response["id"], response["model_version"]) == ("7", "1")


async def test_every_row_is_logged_by_the_door(shop, client):
    await client.infer(MODEL, tensors(), model_version="1", request_id="7")
    rows = sorted(await shop.logged(2), key=lambda p: len(p.inputs["v.colour"].text))
    assert [(p.door, p.request_id, p.version, p.role, p.answered) for p in rows] == [
        ("oip", "7", 1, "champion", True)
    ] * 2
    assert [p.inputs["v.colour"].text for p in rows] == ["red", "blue"]
    assert rows[0].inputs["v.x"].number == 1.0 and rows[1].inputs["v.x"].WhichOneof("kind") is None
    assert rows[0].key.entity == "" and rows[0].key.moment_us == 0
    # Two callers may use one request id: their predictions stay apart.
    await client.infer(MODEL, tensors(), model_version="1", request_id="7")
    assert len({p.prediction_id for p in await shop.logged(4)}) == 4


async def test_the_plan_routes_by_routing_key_and_says_whether_it_sticks(shop, client):
    async def version(**parameters):
        result = await client.infer(MODEL, tensors(), **parameters)
        response = result.get_response()
        return response.model_version, response.parameters["sticky"].bool_param

    seen = {}
    for n in range(30):
        key = f"key-{n}"
        chosen, sticky = await version(parameters={"routing_key": key})
        assert sticky and int(chosen) == shop.parts.serving.models[MODEL].choose(key).version
        assert (await version(parameters={"routing_key": key}))[0] == chosen
        seen[chosen] = key
    assert set(seen) == {"1", "2"}
    assert (await version(parameters={"routing_key": 7}))[1] is True
    assert (await version())[1] is False
    assert seen["2"] in {p.key.entity for p in await shop.logged(124)}


async def test_typed_contents_come_back_typed_and_raw_raw(shop):
    stub = oip.GRPCInferenceServiceStub(shop.channel)
    request = oip.messages.ModelInferRequest(model_name=MODEL, model_version="1")
    x = request.inputs.add(name="v.x", datatype="FP32", shape=[1])
    x.contents.fp32_contents.append(2.0)
    request.inputs.add(name="v.colour", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"red")
    reply = await stub.ModelInfer(request)
    assert not reply.raw_output_contents
    assert list(reply.outputs[0].contents.fp32_contents) == pytest.approx([sigmoid(3.5)], abs=1e-6)
    assert reply.parameters["prediction_id"].string_param == (await shop.logged(1))[0].prediction_id


async def refusal(client, inputs, model=MODEL, version="1", **more):
    with pytest.raises(InferenceServerException) as caught:
        await client.infer(model, inputs, model_version=version, **more)
    return caught.value.status(), caught.value.message()


async def test_what_is_wrong_with_a_request_is_said_with_what_was_expected(shop, client):
    x, colour = tensors()
    short, _ = tensors(x=(1.0,))
    double = triton.InferInput("v.x", [2], "FP64")
    double.set_data_from_numpy(np.array([1, 2], np.float64))
    square = triton.InferInput("v.x", [2, 1], "FP32")
    square.set_data_from_numpy(np.array([[1], [2]], np.float32))
    stranger = triton.InferInput("v.z", [1], "FP32")
    stranger.set_data_from_numpy(np.array([1], np.float32))
    binary = triton.InferInput("v.colour", [2], "BYTES")
    binary.set_data_from_numpy(np.array([b"\xff\xfe", b"a"], dtype=object))
    for inputs, words in (
        ([x], "input 'v.colour' is missing; expected BYTES of shape [-1]"),
        ([x, colour, stranger], "input 'v.z' is not known; expected v.x, v.colour"),
        ([double, colour], "input 'v.x' is FP64; expected FP32"),
        ([square, colour], "input 'v.x' has shape [2, 1]; expected [-1]"),
        ([short, colour], "inputs differ in their number of rows"),
        ([x, binary], "input 'v.colour' is not UTF-8"),
        (tensors(x=(), colours=()), "has 0 rows; expected 1 to 1000"),
    ):
        status, message = await refusal(client, inputs)
        assert (status, words in message) == ("StatusCode.INVALID_ARGUMENT", True), message
    status, message = await refusal(client, tensors(), outputs=[triton.InferRequestedOutput("nope")])
    assert status == "StatusCode.INVALID_ARGUMENT" and "'nope' is not known; expected probability" in message
    status, message = await refusal(client, tensors(), version="9")
    assert status == "StatusCode.NOT_FOUND" and "expected one of [1, 2]" in message
    status, message = await refusal(client, tensors(), version="latest")
    assert status == "StatusCode.INVALID_ARGUMENT" and "expected a whole number" in message
    status, message = await refusal(client, tensors(), model="nobody")
    assert status == "StatusCode.NOT_FOUND" and "expected one of ['returns']" in message


async def test_a_released_model_that_is_not_loaded_yet_is_unavailable(shop, client):
    shop.registry.down = True
    await shop.release(shop.variant(1, linear(3.0)), model="later")
    await until(lambda: "later" in shop.parts.serving.waiting)
    status, message = await refusal(client, tensors(), model="later")
    assert status == "StatusCode.UNAVAILABLE" and "not loaded yet" in message


async def test_the_stream_answers_in_order_and_tells_failures_in_their_place(shop, client):
    async def requests():
        for n in range(10):
            model = MODEL if n != 5 else "nobody"
            yield {"model_name": model, "inputs": tensors(), "model_version": "1", "request_id": str(n)}

    results = [pair async for pair in client.stream_infer(requests())]
    assert [n for n, (_, error) in enumerate(results) if error] == [5]
    assert [r.get_response().id for r, error in results if not error] == ["0", "1", "2", "3", "4", "6", "7", "8", "9"]


async def test_a_fallback_answers_for_a_variant_that_fails(tmp_path):
    async with world(tmp_path) as shop:
        good = onnx_models.classifier({"v.x": 1.0})
        await shop.released(
            shop.variant(2, onnx_models.fragile("v.x", 4), bundle=b""),
            shop.variant(1, good, role="shadow", fallback=True),
        )
        async with triton_aio.InferenceServerClient(shop.room.status.grpc_address) as client:
            x = triton.InferInput("v.x", [6], "FP32")
            x.set_data_from_numpy(np.zeros(6, np.float32))
            result = await client.infer(MODEL, [x])
            assert result.get_response().model_version == "1" and result.as_numpy("probability").tolist() == [0.5] * 6
            status, message = await refusal(client, [x], version="2")
            assert status == "StatusCode.INTERNAL" or "version 2 failed" in message
        logged = await shop.logged(18)
        assert sorted((p.version, p.answered) for p in logged) == [(1, True)] * 6 + [(2, False)] * 12


@pytest.mark.parametrize(
    ("element", "datatype", "dtype"),
    [
        (TensorProto.BOOL, "BOOL", np.bool_),
        (TensorProto.UINT8, "UINT8", np.uint8),
        (TensorProto.UINT16, "UINT16", np.uint16),
        (TensorProto.UINT32, "UINT32", np.uint32),
        (TensorProto.UINT64, "UINT64", np.uint64),
        (TensorProto.INT8, "INT8", np.int8),
        (TensorProto.INT16, "INT16", np.int16),
        (TensorProto.INT32, "INT32", np.int32),
        (TensorProto.INT64, "INT64", np.int64),
        (TensorProto.FLOAT16, "FP16", np.float16),
        (TensorProto.FLOAT, "FP32", np.float32),
        (TensorProto.DOUBLE, "FP64", np.float64),
        (TensorProto.STRING, "BYTES", np.object_),
    ],
)
async def test_every_datatype_passes_through_a_model_from_outside(tmp_path, element, datatype, dtype):
    async with world(tmp_path) as shop:
        await shop.released(shop.variant(1, onnx_models.identity(element), bundle=b""))
        array = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
        if datatype == "BYTES":
            array = np.array([[b"a", b""], [b"\xc3\xa9", b"b"], [b"c", b"d"]], dtype=object)
        async with triton_aio.InferenceServerClient(shop.room.status.grpc_address) as client:
            x = triton.InferInput("x", [3, 2], datatype)
            x.set_data_from_numpy(array)
            result = await client.infer(MODEL, [x])
        out = result.as_numpy("y")
        assert out.dtype == array.dtype and out.tolist() == array.tolist()
        logged = await shop.logged(3)
        assert {len(p.inputs) for p in logged} == {2} and {len(p.outputs) for p in logged} == {
            0 if datatype == "BYTES" else 2
        }
        with pytest.raises(Exception, match="takes tensors"):
            await shop.ask("a")


async def test_the_http_door(shop):
    base = f"http://{shop.room.status.http_address}/v2"
    inputs = [
        {"name": "v.x", "datatype": "FP32", "shape": [2], "data": [1.0, None]},
        {"name": "v.colour", "datatype": "BYTES", "shape": [2], "data": ["red", "blue"]},
    ]
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{base}/health/live")).json() == {"live": True}
        assert (await http.get(f"{base}/health/ready")).status_code == 200
        assert (await http.get(f"{base}/models/{MODEL}/versions/9/ready")).status_code == 503
        metadata = (await http.get(f"{base}/models/{MODEL}/versions/2")).json()
        assert metadata["versions"] == ["1", "2"] and metadata["inputs"][0]["shape"] == [-1]
        body = {"id": "7", "inputs": inputs, "parameters": {"routing_key": "k"}}
        done = (await http.post(f"{base}/models/{MODEL}/infer", json=body)).json()
        assert done["id"] == "7" and done["parameters"]["sticky"] is True
        done = (await http.post(f"{base}/models/{MODEL}/versions/1/infer", json={"inputs": inputs})).json()
        assert done["outputs"][0]["data"] == pytest.approx([sigmoid(2.5), sigmoid(0.5)], abs=1e-6)
        for spoil, status, words in (
            ({"inputs": inputs[:1]}, 400, "'v.colour' is missing"),
            ({"inputs": [inputs[0], {**inputs[1], "data": ["red"]}]}, 400, "1 values; expected 2"),
            ({"inputs": [{**inputs[0], "data": ["1", "2"]}, inputs[1]]}, 400, "not FP32"),
            ({"inputs": [{**inputs[0], "shape": [-2]}, inputs[1]]}, 400, "negative dimension"),
            ({"inputs": [inputs[0], inputs[0]]}, 400, "given twice"),
            ({"inputs": inputs, "parameters": {"routing_key": True}}, 400, "routing_key"),
        ):
            answer = await http.post(f"{base}/models/{MODEL}/versions/1/infer", json=spoil)
            assert answer.status_code == status and words in answer.text, answer.text
        assert (await http.post(f"{base}/models/nobody/infer", json={"inputs": inputs})).status_code == 404
    assert len([p for p in await shop.logged(4) if p.answered]) == 4


async def test_nested_json_data_is_row_major(tmp_path):
    async with world(tmp_path) as shop:
        await shop.released(shop.variant(1, onnx_models.identity(TensorProto.INT64), bundle=b""))
        body = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]}
        async with httpx.AsyncClient() as http:
            url = f"http://{shop.room.status.http_address}/v2/models/{MODEL}/infer"
            assert (await http.post(url, json=body)).json()["outputs"][0]["data"] == [1, 2, 3, 4]
            body["inputs"][0]["data"] = [[1.5, 2], [3, 4]]
            assert (await http.post(url, json=body)).status_code == 400
