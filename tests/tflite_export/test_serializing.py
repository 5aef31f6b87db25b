"""Files whose data lie outside of the FlatBuffer, and what the package makes of them."""

import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from keras_archs.errors import InputError
from keras_archs.preprocessing import TF
from tests.tflite_export import fitted_networks as networks
from tests.tflite_export.files import file_of, lower, metadata
from tests.tflite_export.networks import stripes
from tests.tflite_export.test_metadata import buffers
from tflite_export import KINDS, Classifier, Source, attach, convert
from tflite_export.settings import CALIBRATED, SELECTIVE
from tflite_export.tflite_file import serialize as serializing
from tflite_export.tflite_file.delegates import arena_bytes, operators
from tflite_export.tflite_file.serialize import pack, unpack

KEPT = "conv_pw_6"


def with_data_outside(content):
    """The same file with all buffers after the FlatBuffer, as the schema has it for large ones."""
    model = flatbuffer_utils.read_model_from_bytearray(content)
    outside = {}
    for index, buffer in enumerate(model.buffers):
        if buffer.data is not None:
            outside[index] = bytes(buffer.data)
            buffer.data, buffer.offset, buffer.size = None, 1, 1
    file = bytearray(flatbuffer_utils.convert_object_to_bytearray(model))
    for index, data in outside.items():
        file += bytes(-len(file) % 16)
        place = len(file)
        file += data
        packed = schema.Model.GetRootAs(file).Buffers(index)
        flatbuffer_utils.update_packed_buffer(packed, offset=place, size=len(data))
        del packed
    return bytes(file)


def test_metadata_leave_a_file_as_it_is_whose_data_lie_outside():
    inside = file_of("none")
    outside = with_data_outside(inside)
    assert not buffers(outside)  # nothing is inside, or this would be no test
    images = stripes(5)[0]
    expected = Classifier(inside).predict(images)
    np.testing.assert_array_equal(Classifier(outside).predict(images), expected)
    np.testing.assert_array_equal(Classifier(attach(outside, metadata())).predict(images), expected)


def test_what_reads_a_file_sees_the_same_of_one_whose_data_lie_outside():
    inside = file_of("int8")
    outside = with_data_outside(inside)
    assert [str(each) for each in operators(outside)] == [str(each) for each in operators(inside)]
    assert arena_bytes(outside) == arena_bytes(inside)
    assert pack(unpack(outside)) == pack(unpack(inside))


def test_options_of_a_custom_operator_come_inside():
    options, weights = b"options of ours", np.arange(5, dtype=np.uint8)
    tensor = schema.TensorT(shape=[5], type=schema.TensorType.UINT8, buffer=1, name=b"weights")
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.CUSTOM, customCode=b"Mine")
    operator = schema.OperatorT(inputs=[0], outputs=[0], largeCustomOptionsOffset=1)
    operator.largeCustomOptionsSize = len(options)
    graph = schema.SubGraphT(tensors=[tensor], inputs=[0], outputs=[0], operators=[operator])
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph])
    model.buffers = [schema.BufferT(), schema.BufferT(data=weights)]
    # The length of the FlatBuffer, which the place is after, does not hang on the place.
    operator.largeCustomOptionsOffset = len(flatbuffer_utils.convert_object_to_bytearray(model))
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model)) + options

    file = schema.Model.GetRootAs(pack(unpack(content)))
    found = file.Subgraphs(0).Operators(0)
    assert found.CustomOptionsAsNumpy().tobytes() == options
    assert (found.LargeCustomOptionsOffset(), found.LargeCustomOptionsSize()) == (0, 0)
    assert file.Buffers(1).DataAsNumpy().tolist() == weights.tolist()


def test_a_file_above_2_gb_is_refused_in_one_line(monkeypatch):
    model = unpack(file_of("none"))
    large = np.broadcast_to(np.uint8(0), 2**31)  # takes no memory
    model.buffers.append(schema.BufferT(large))
    with pytest.raises(InputError, match=r"takes 2\.\d\d GB, a file has at most 2\.15 GB") as error:
        pack(model)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(serializing, "LARGEST", len(file_of("none")))
    with pytest.raises(InputError, match="too large"):
        attach(file_of("none"), metadata())


DATA = networks.images("mobilenet", side=32, fitted=60, tested=5)


@pytest.fixture(scope="module")
def network():
    """MobileNet 0.5 with 3.3 MB of weights."""
    return networks.network("mobilenet", DATA, alpha=0.5)


CASES = [(kind, ()) for kind in KINDS] + [(kind, (KEPT,)) for kind in SELECTIVE]
OUTSIDE = [("weight_int8", ()), ("weight_int4", ()), ("dynamic", (KEPT,)), ("int8", ())]


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "keep_float"),
    # Those with weights outside of the FlatBuffer, and the rest in `make test-slow`.
    [pytest.param(*case, marks=() if case in OUTSIDE else pytest.mark.slow) for case in CASES],
)
def test_every_file_with_metadata_computes_as_without(network, kind, keep_float):
    """More than 1 MB of weights: from 256 KiB on ai-edge-quantizer stores them outside."""
    images = DATA.test
    arguments = {"keep_float": keep_float}
    if kind in CALIBRATED:
        arguments["representative"] = DATA.train
    names = tuple(f"class {number}" for number in range(10))
    made = convert(Source(network, names, TF), kind, **arguments).content
    expected = Classifier(lower(network, kind, **arguments)).predict(images)
    np.testing.assert_array_equal(Classifier(made).predict(images), expected)
    assert Classifier(made).metadata.class_names == names
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        alone = made[: archive.getinfo("keras_archs.json").header_offset]
    np.testing.assert_array_equal(Classifier(alone).predict(images), expected)


@pytest.mark.full
@pytest.mark.parametrize("source", [lambda x: x, lambda x: Source(x, None, TF)])
@pytest.mark.parametrize("kind", ["none", "weight_int8"])
def test_all_data_of_a_file_are_inside_and_aligned(network, kind, source):
    """So every runtime reads it. TensorFlow does not align, the quantizer stores outside."""
    content = convert(source(network), kind).content
    model = schema.Model.GetRootAs(content)
    assert not any(model.Buffers(index).Offset() for index in range(model.BuffersLength()))
    assert {place % 16 for place, _ in buffers(content)} == {0}
