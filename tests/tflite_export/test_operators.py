"""What is said of a file against the interpreter, and against graphs whose answer is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers, ops

from keras_archs.errors import InputError
from tests.tflite_export.files import lower
from tests.tflite_export.networks import build, stripes
from tflite_export.tflite_file.delegates import Operator, arena_bytes, operators


def file_of(*steps, shape=(8, 8, 16), kind="none", **options):
    """A file of functions in a row, behind a convolution and before a classifier."""
    image = keras.Input(shape)
    x = layers.Conv2D(shape[-1], 1)(image)
    for step in steps:
        x = step(x)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    if kind == "int8":
        options["representative"] = np.random.default_rng(0).normal(size=(50, *shape)).astype("f4")
    return lower(model, kind, **options)


def network():
    model = build()
    return keras.Model(model.inputs, model.outputs)


def named(found: list[Operator], name: str) -> Operator:
    return next(operator for operator in found if operator.name == name)


def test_operators_with_their_tensors():
    found = operators(lower(network()))
    first, last = found[0], found[-1]
    assert (first.name, last.name) == ("CONV_2D", "SOFTMAX")
    image, kernel, bias = first.inputs
    assert [str(image), str(kernel), str(bias)] == [
        "float32[1,24,24,3]",
        "float32[16,3,3,3]",
        "float32[16]",
    ]
    assert [each.constant for each in first.inputs] == [False, True, True]
    assert str(first).endswith("-> float32[1,12,12,16]")
    assert all(operator.xnnpack and operator.gpu and not operator.custom for operator in found)


def test_integer_types_are_named():
    found = operators(lower(network(), "int8", representative=stripes(60)[0]))
    assert [each.dtype for each in found[0].inputs] == ["int8", "int8", "int32"]


# By https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/delegates/xnnpack/README.md
@pytest.mark.parametrize(
    ("step", "name", "kind", "taken"),
    [
        (ops.hard_silu, "HARD_SWISH", "none", True),
        (ops.gelu, "GELU", "int8", False),
        (ops.tanh, "TANH", "int8", True),
        (lambda x: ops.max(x, axis=1, keepdims=True), "REDUCE_MAX", "none", True),
        (lambda x: ops.cumsum(x, axis=1), "CUMSUM", "none", False),
    ],
)
def test_xnnpack_takes_what_its_documentation_says(step, name, kind, taken):
    found = operators(file_of(step, kind=kind))
    assert named(found, name).xnnpack is taken
    assert named(found, "CONV_2D").xnnpack


def test_what_xnnpack_has_taken_is_gone_from_the_interpreter():
    """Only the tensors between the interpreter's own operators and the delegate's are computed."""
    content = file_of(ops.tanh, lambda x: ops.cumsum(x, axis=1), ops.tanh, ops.exp)
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN
    )
    interpreter.allocate_tensors()
    interpreter.invoke()
    names = {each["name"]: each["index"] for each in interpreter.get_tensor_details()}
    found = operators(content)
    users = {tensor.name: step for step in found for tensor in step.inputs}
    inside = [
        step.outputs[0].name
        for step in found
        if step.xnnpack and (user := users.get(step.outputs[0].name)) and user.xnnpack
    ]
    outside = [step.outputs[0].name for step in found if not step.xnnpack]
    assert len(inside) > 2
    assert len(outside) == 1
    for name in inside:
        with pytest.raises(ValueError, match="null"):
            interpreter.get_tensor(names[name])
    assert interpreter.get_tensor(names[outside[0]]).shape == (1, 8, 8, 16)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (lambda x: ops.sort(x, axis=-1), "TOPK_V2"),
        (lambda x: ops.sum(ops.transpose(ops.reshape(x, (-1, 8, 8, 4, 4)), (0, 3, 1, 2, 4)), 1),
         "TRANSPOSE"),  # of five axes
    ],
)  # fmt: skip
def test_gpu_takes_neither_all_operators_nor_all_shapes(step, name):
    found = operators(file_of(step))
    assert not named(found, name).gpu
    assert named(found, "CONV_2D").gpu


@pytest.mark.full
def test_open_batch_is_shown_and_refused_by_the_gpu():
    first = operators(file_of(batch=None))[0]
    assert first.inputs[0].shape == (-1, 8, 8, 16)
    assert "[?,8,8,16]" in str(first)
    assert first.xnnpack
    assert not first.gpu


def test_custom_operators_are_named():
    function = tf.function(tf.math.erf, input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module()
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    found = named(operators(converter.convert()), "FlexErf")
    assert (found.custom, found.xnnpack, found.gpu) == (True, False, False)


@pytest.mark.full
def test_float16_weights_are_no_activations():
    small, whole = (file_of(ops.tanh, kind=kind) for kind in ("float16", "none"))
    assert arena_bytes(small) == arena_bytes(whole)
    assert all(operator.xnnpack for operator in operators(small))


@pytest.mark.full
def test_arena_holds_what_is_needed_at_once():
    """The image, which stays to the end, and of the other maps those that are still to be read."""
    one = 8 * 8 * 16 * 4
    assert arena_bytes(file_of(*[ops.tanh] * 6)) == 3 * one
    assert arena_bytes(file_of(lambda x: x + ops.tanh(ops.sin(ops.tanh(x))))) == 4 * one
    assert arena_bytes(file_of(*[ops.tanh] * 6, kind="int8")) == 3 * one / 4


@pytest.mark.parametrize("content", [b"", b"no network at all"])
def test_other_files_are_refused(content):
    for function in (operators, arena_bytes):
        with pytest.raises(InputError, match="not a working TFLite file") as caught:
            function(content)
        assert "\n" not in str(caught.value)


def test_a_cut_file_is_refused():
    content = lower(network())
    for share in (0.01, 0.5, 0.99):
        with pytest.raises(InputError, match="not a working TFLite file"):
            operators(content[: int(share * len(content))])
