"""Every datatype goes through both forms and comes back; a tensor that contradicts itself is refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from millrace.oip import messages, tensors

NUMBERS = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([0, 255], "u1"),
    "UINT16": np.array([0, 65535], "u2"),
    "UINT32": np.array([0, 2**32 - 1], "u4"),
    "UINT64": np.array([0, 2**64 - 1], "u8"),
    "INT8": np.array([-128, 127], "i1"),
    "INT16": np.array([-(2**15), 2**15 - 1], "i2"),
    "INT32": np.array([-(2**31), 2**31 - 1], "i4"),
    "INT64": np.array([-(2**63), 2**63 - 1], "i8"),
    "FP16": np.array([[1.5, -65504.0, np.nan]], "f2"),
    "FP32": np.array([[1.5], [np.inf]], "f4"),
    "FP64": np.array([1e300, np.nan], "f8"),
}


def request_of(kind, shape, *, raw=None, name="x", **contents):
    request = messages.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name=name, datatype=kind, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_survive_the_raw_form(kind):
    array = NUMBERS[kind]
    back = tensors.from_raw(tensors.to_raw(array, kind), kind, array.shape)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("kind", [k for k in NUMBERS if k != "FP16"])
def test_numbers_survive_the_typed_form(kind):
    array = NUMBERS[kind]
    contents = messages.InferTensorContents()
    tensors.fill_contents(contents, array, kind)
    back = tensors.from_contents(contents, kind, array.shape)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_bytes_survive_both_forms(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    raw = tensors.to_raw(array, "BYTES")
    assert raw[:4] == (len(values[0]).to_bytes(4, "little") if values else b"")
    assert tensors.from_raw(raw, "BYTES", [len(values)]).tolist() == values
    contents = messages.InferTensorContents()
    tensors.fill_contents(contents, array, "BYTES")
    assert tensors.from_contents(contents, "BYTES", [len(values)]).tolist() == values


def test_text_is_written_as_utf8():
    assert tensors.to_raw(np.array(["é"], dtype=object), "BYTES") == b"\x02\x00\x00\x00\xc3\xa9"


@given(hnp.arrays("f4", st.integers(0, 30), elements=st.floats(width=32)))
def test_bf16_rounds_to_the_nearest_and_is_stable(array):
    once = tensors.from_raw(tensors.to_raw(array, "BF16"), "BF16", array.shape)
    twice = tensors.from_raw(tensors.to_raw(once, "BF16"), "BF16", array.shape)
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(np.isnan(once), np.isnan(array))
    normal = np.isfinite(array) & (np.abs(array) > 1e-37) & (np.abs(array) < 3e38)
    assert np.all(np.abs(once[normal] - array[normal]) <= np.abs(array[normal]) / 256)


@given(st.binary(max_size=64), st.integers(0, 8))
def test_any_bytes_either_decode_or_are_refused(data, count):
    try:
        values = tensors.from_raw(data, "BYTES", [count])
    except tensors.TensorError:
        return
    assert tensors.to_raw(values, "BYTES") == data


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (request_of("FP33", [1]), "datatype 'FP33' is not known; expected one of BOOL"),
        (request_of("FP32", [3], fp32_contents=[1, 2]), "2 values; expected 3 for shape [3]"),
        (request_of("FP32", [2], fp64_contents=[1, 2]), "values are in fp64_contents; expected fp32_contents"),
        (request_of("FP16", [1], fp32_contents=[1]), "no typed contents; expected raw_input_contents"),
        (request_of("INT8", [1], int_contents=[400]), "does not fit into INT8; expected -128 to 127"),
        (request_of("FP32", [2], raw=b"1234567"), "7 bytes; expected 8 for FP32 of shape [2]"),
        (request_of("FP32", [-1], raw=b""), "negative dimension"),
        (request_of("FP32", [1], raw=b"1234", fp32_contents=[1]), "typed contents beside raw_input_contents"),
        (request_of("BYTES", [1], raw=b"\x09\x00\x00\x00ab"), "element 0 is cut short; expected 9 bytes"),
        (request_of("BYTES", [1], raw=b"\x01\x00\x00\x00abc"), "2 bytes left over"),
        (request_of("BYTES", [2**62], raw=b"\x00" * 8), "expected at least"),
    ],
)
def test_contradictions_are_refused_with_what_was_expected(request_, words):
    with pytest.raises(tensors.TensorError) as caught:
        tensors.decode_request(request_)
    assert words in str(caught.value)
    assert "'x'" in str(caught.value)


def test_raw_needs_one_entry_per_input_and_each_input_once():
    request = request_of("FP32", [1], raw=b"1234")
    request.inputs.add(name="y", datatype="FP32", shape=[1])
    with pytest.raises(tensors.TensorError, match="has 1 entries; expected 2"):
        tensors.decode_request(request)
    request.raw_input_contents.append(b"1234")
    request.inputs[1].name = "x"
    with pytest.raises(tensors.TensorError, match="given twice"):
        tensors.decode_request(request)


@pytest.mark.parametrize("raw", [True, False])
def test_outputs_come_back_in_the_form_they_were_written(raw):
    response = messages.ModelInferResponse()
    tensors.add_output(response, "p", "FP32", np.array([0.25, 0.5], "f4"), raw=raw)
    tensors.add_output(response, "s", "BYTES", np.array(["a", "b"], dtype=object), raw=raw)
    assert bool(response.raw_output_contents) is raw
    decoded = tensors.decode_response(response)
    assert decoded["p"].tolist() == [0.25, 0.5]
    assert decoded["s"].tolist() == [b"a", b"b"]
