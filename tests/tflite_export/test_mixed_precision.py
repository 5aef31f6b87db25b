"""Networks that were trained in half precision: their files are those of float32."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_archs
from tests.tflite_export import fitted_networks as networks
from tflite_export import Classifier, convert
from tflite_export.tflite_file.delegates import operators

# A network of each family.
CASES = {
    "mobilenet": ("mixed_float16", "mobilenet", {"alpha": 0.25}),
    "efficientnet": (
        "mixed_bfloat16",
        "efficientnet",
        {"width_coefficient": 0.35, "depth_coefficient": 0.2},
    ),
    "vgg": ("mixed_bfloat16", "vgg11", {"batch_norm": True}),
    "inception": ("mixed_float16", "inceptionv1", {"batch_norm": True}),
    "resnet": ("mixed_float16", "resnet18d", {}),
    "attention": ("mixed_bfloat16", "resnet18", {"attention": {2: "se", 3: "gc", 4: "non_local"}}),
    "transformer": ("mixed_float16", "coatnet0", {}),
}
FAST = {"mobilenet"}


def train(model, data):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, run_eagerly=True)
    for _ in range(2):
        assert np.isfinite(model.train_on_batch(data.train, data.train_labels))


@pytest.mark.full
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES]
)
def test_the_file_of_a_half_precision_network_is_all_float32_or_integers(case, tmp_path):
    policy, name, arguments = CASES[case]
    data = networks.images(name, side=32, fitted=64, tested=24)
    twin = networks.network(name, data, **arguments)  # with weights that tell images apart
    keras.config.set_dtype_policy(policy)
    model = keras_archs.create_model(
        name, input_shape=(32, 32, 3), classes=10, classifier_activation=None, **arguments
    )
    model.set_weights(twin.get_weights())
    train(model, data)
    model.save(tmp_path / "half.keras")
    assert model.compute_dtype != "float32"

    keras.config.set_dtype_policy("float32")
    twin.set_weights(model.get_weights())
    expected = twin.predict(data.test, verbose=0)
    for kind, bound in {"none": 1e-4, "int8": 0.4}.items():
        options = {"representative": data.train, "io": "float32"} if kind == "int8" else {}
        content = convert(tmp_path / "half.keras", kind, **options).content
        (output,) = Interpreter(model_content=content).get_output_details()
        assert output["dtype"] is np.float32
        found = operators(content)
        types = {each.dtype for step in found for each in (*step.inputs, *step.outputs)}
        assert types <= {"float32", "int32"} | ({"int8"} if kind == "int8" else set())
        inner = [step.name for step in found[1:-1]]  # at the ends of int8 are those of its floats
        assert not {"CAST", "QUANTIZE", "DEQUANTIZE"}.intersection(inner)
        error = Classifier(content).predict(data.test) - expected
        assert np.sqrt(np.mean(np.square(error))) < bound * expected.std()
