"""Private members of other packages that ours use: each does what ours rely on.

pyproject.toml lists them beside the ranges of versions. A failure here names what a new
version of Keras, TensorFlow or LiteRT has changed.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers
from keras.src.backend.common import global_state

from tests.tflite_export.files import file_of


def test_keras_nodes_by_depth_are_the_calls_from_the_outputs_on():
    image = keras.Input((4, 4, 3))
    shared = layers.Conv2D(3, 1)
    model = keras.Model(image, layers.Add()([shared(shared(image)), image]))
    nodes = model._nodes_by_depth
    called = [[node.operation for node in nodes[depth]] for depth in sorted(nodes)]
    assert called == [[model.layers[-1]], [shared], [shared], [model.layers[0]]]
    ((add,), (second,), (first,), (start,)) = (nodes[depth] for depth in sorted(nodes))
    assert start.is_input
    assert not add.is_input
    assert first.input_tensors == [image]
    assert add.input_tensors == [second.output_tensors[0], image]
    assert second.input_tensors == first.output_tensors
    args, kwargs = second.arguments.fill_in({id(first.output_tensors[0]): image})
    assert args == (image,)
    assert kwargs == second.arguments.kwargs == {}


def test_keras_layers_know_the_layers_in_them():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.one = layers.ReLU()
            self.more = [layers.Dense(2), layers.Dense(3)]

    block = Block()
    assert block._layers == [block.one, *block.more]


def test_keras_lists_the_variables_that_a_stateless_scope_leaves_empty():
    with keras.StatelessScope():
        variable = keras.Variable(lambda shape, dtype: 1 / 0, shape=(2,))  # noqa: ARG005
        waiting = global_state.get_global_attribute("uninitialized_variables")
        assert waiting[-1] is variable
        del waiting[-1]  # or the scope would fill it


@pytest.fixture
def sgd():
    """An optimizer that adds up the gradients of two batches, and its variables."""
    variables = [keras.Variable(np.float32([1, 2])), keras.Variable(np.float32([3]))]
    optimizer = keras.optimizers.SGD(1.0, clipnorm=10, gradient_accumulation_steps=2)
    optimizer.build(variables)
    return optimizer, variables


GRADIENTS = [tf.constant([0.5, 0.0]), tf.constant([0.25])]


def test_keras_optimizers_find_what_belongs_to_a_variable(sgd):
    optimizer, variables = sgd
    assert [optimizer._get_variable_index(each) for each in variables] == [0, 1]
    optimizer.apply(GRADIENTS)
    for index, gradient in enumerate(GRADIENTS):
        np.testing.assert_array_equal(optimizer._accumulated_gradients[index], gradient)
    assert int(optimizer._iterations) == 1


def test_keras_optimizers_take_a_step_in_parts(sgd):
    optimizer, variables = sgd
    (clipped,) = optimizer._clip_gradients([tf.constant([30.0, 40.0])])
    np.testing.assert_allclose(clipped, [6, 8])
    optimizer._backend_update_step(GRADIENTS, variables, optimizer.learning_rate)
    np.testing.assert_array_equal(variables[0], [0.5, 2])
    np.testing.assert_array_equal(variables[1], [2.75])


def test_keras_optimizers_use_the_parts_that_are_replaced(sgd):
    optimizer, variables = sgd
    summed, applied = [], []
    optimizer._all_reduce_sum_gradients = lambda pairs: summed.append(list(pairs)) or summed[-1]
    for _ in range(2):
        optimizer.apply(GRADIENTS)
    ((first, _),) = summed
    assert first[1] is variables[0].value
    optimizer._backend_apply_gradients = lambda *given: applied.append(given)
    before = [np.array(each) for each in variables]
    optimizer.apply(GRADIENTS)
    ((gradients, moved),) = applied
    assert moved == variables
    for gradient, given in zip(gradients, GRADIENTS, strict=True):
        np.testing.assert_array_equal(gradient, given)
    for each, old in zip(variables, before, strict=True):
        np.testing.assert_array_equal(each, old)


def test_litert_lists_a_files_operators_and_then_the_delegates():
    def nodes(resolver):
        interpreter = Interpreter(
            model_content=file_of("none"), experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
        (image,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
        return interpreter._get_ops_details(), image["index"], scores["index"]

    plain, *_ = nodes(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    assert plain[0]["op_name"] == "CONV_2D"
    assert "DELEGATE" not in {node["op_name"] for node in plain}
    found, image, scores = nodes(OpResolverType.BUILTIN)
    assert [node["op_name"] for node in found[len(plain) :]] == ["DELEGATE"]
    assert image in found[-1]["inputs"]
    assert list(found[-1]["outputs"]) == [scores]
