"""Our messages live beside tritonclient's in one process and say the same on the wire."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("first", ["tritonclient.grpc", "millrace.oip"])
def test_both_libraries_import_in_one_process_in_either_order(first):
    second = {"tritonclient.grpc": "millrace.oip", "millrace.oip": "tritonclient.grpc"}[first]
    code = f"import {first}, {second}; print('both')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "both", done.stderr


def test_the_committed_schema_is_what_protoc_makes():
    done = subprocess.run(
        [sys.executable, "scripts/generate_oip.py", "--check"], cwd=ROOT, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_every_field_has_tritons_number_and_type():
    from millrace.oip import messages
    from tritonclient.grpc import model_config_pb2, service_pb2

    def compare(ours, theirs, path):
        for field in ours.fields:
            if (path, field.name) == ("ModelMetadataResponse", "properties"):
                continue  # in the protocol, not in Triton
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type) == (other.number, other.type), (path, field.name)
            assert field.is_repeated == other.is_repeated, (path, field.name)
        for nested in ours.nested_types:
            if nested.name in theirs.nested_types_by_name:
                compare(nested, theirs.nested_types_by_name[nested.name], f"{path}.{nested.name}")

    for name, ours in messages.DESCRIPTOR.message_types_by_name.items():
        theirs = getattr(service_pb2, name, None) or getattr(model_config_pb2, name)
        compare(ours, theirs.DESCRIPTOR, name)


def test_a_request_of_tritonclient_reads_the_same_here():
    import numpy as np
    import tritonclient.grpc as triton
    from millrace import oip
    from tritonclient.grpc._utils import _get_inference_request

    tensor = triton.InferInput("x", [2], "FP32")
    tensor.set_data_from_numpy(np.array([1, 2], "f4"))
    theirs = _get_inference_request(
        model_name="m", inputs=[tensor], model_version="3", request_id="r", outputs=None, sequence_id=0,
        sequence_start=False, sequence_end=False, priority=0, timeout=None, parameters={"routing_key": "k"},
    )  # fmt: skip
    ours = oip.messages.ModelInferRequest.FromString(theirs.SerializeToString())
    assert (ours.model_name, ours.model_version, ours.id) == ("m", "3", "r")
    assert ours.parameters["routing_key"].string_param == "k"
    assert oip.decode_request(ours)["x"].tolist() == [1.0, 2.0]
