"""Files whose data lie outside of the FlatBuffer, and what the package makes of them."""

import io
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

import keras_archs
from keras_archs.errors import InputError
from keras_archs.preprocessing import TF
from tests.tflite_export.files import file_of, metadata
from tests.tflite_export.networks import stripes
from tests.tflite_export.test_metadata import buffers
from tflite_export import KINDS, Classifier, Source, attach, convert, serializing
from tflite_export.lowering import CALIBRATED, SELECTIVE, lower
from tflite_export.operators import arena_bytes, operators
from tflite_export.serializing import pack, unpack

SIDE = 64
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


@pytest.fixture(scope="module")
def network():
    """MobileNet 0.5 with 3.3 MB of weights, whose batch norms have seen pictures."""
    keras.utils.set_random_seed(0)
    model = keras_archs.MobileNet(alpha=0.5, input_shape=(SIDE, SIDE, 3), classes=10)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(pictures(32), training=True)
    return model


def pictures(count):
    """Coarse noise, smooth between; float32 in [-1, 1]."""
    coarse = np.random.default_rng(0).uniform(-1, 1, (count, 8, 8, 3))
    return np.asarray(keras.ops.image.resize(coarse, (SIDE, SIDE)), np.float32)


CASES = [(kind, ()) for kind in KINDS] + [(kind, (KEPT,)) for kind in SELECTIVE]


@pytest.mark.parametrize(("kind", "keep_float"), CASES)
def test_every_file_with_metadata_computes_as_without(network, kind, keep_float):
    """More than 1 MB of weights: from 256 KiB on ai-edge-quantizer stores them outside."""
    images = pictures(60)
    arguments = {"keep_float": keep_float}
    if kind in CALIBRATED:
        arguments["representative"] = images
    names = tuple(f"class {number}" for number in range(10))
    made = convert(Source(network, names, TF), kind, **arguments)
    plain = lower(network, kind, **arguments)
    assert made.content != plain
    found = Classifier(made.content)
    assert found.metadata.class_names == names
    np.testing.assert_array_equal(found.predict(images[:5]), Classifier(plain).predict(images[:5]))
    # Every runtime reads it: all data are inside, aligned, before the archive.
    with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
        end = archive.getinfo("keras_archs.json").header_offset
    model = schema.Model.GetRootAs(made.content)
    assert not any(model.Buffers(index).Offset() for index in range(model.BuffersLength()))
    places = buffers(made.content)
    assert {place % 16 for place, _ in places} == {0}
    assert max(place + len(data) for place, data in places) <= end
    assert Interpreter(model_content=made.content[:end]).get_signature_list()
