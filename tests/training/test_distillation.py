"""Distillation against NumPy, and teachers that are handed what they were trained on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

import keras_archs
import training
from keras_archs.errors import InputError
from training.model.distillation import Student, divergence, load_teacher
from training.runs.run_folder import Settings

NAMES = ("a", "b", "c")


def softmax(logits, temperature=1.0):
    powers = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


logits = st_numpy.arrays("float64", (2, 5), elements=st.floats(-20, 20))


@settings(max_examples=50, deadline=None)
@given(teacher=logits, student=logits, temperature=st.floats(0.5, 10))
def test_divergence_of_probabilities_is_that_of_logits(teacher, student, temperature):
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    expected = (p * np.log(p / q)).sum(axis=-1)
    found = divergence(
        *(softmax(x).astype("float32") for x in (teacher, student)), temperature=temperature
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_certain_networks_give_finite_gradients():
    far = tf.Variable([[0.0, 300.0, -300.0]])
    with tf.GradientTape() as tape:
        loss = divergence(np.array([[1.0, 0.0, 0.0]], "float32"), tf.nn.softmax(far), 2.0)
    assert np.isfinite(loss).all()
    assert np.isfinite(tape.gradient(loss, far)).all()


def test_loss_is_hintons():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0, 1, 2]]
    teacher = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dropout(0.9), keras.layers.Dense(3, "softmax")]
    )
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3, "softmax")(inputs)
    student = Student(
        inputs,
        outputs,
        teacher=lambda images: teacher(images, training=False),
        weight=0.3,
        temperature=2.0,
    )
    student.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy", metrics=["accuracy"])
    kernel, bias = student.get_weights()
    logits = x @ kernel + bias
    told = x @ teacher.get_weights()[0] + teacher.get_weights()[1]
    p, q = softmax(told, 2.0), softmax(logits, 2.0)
    crossentropy = -np.log(softmax(logits)[labels == 1]).mean()
    expected = 0.7 * crossentropy + 0.3 * 4 * (p * np.log(p / q)).sum(axis=1).mean()
    assert student.evaluate(x, labels, verbose=0)[0] == pytest.approx(crossentropy, rel=1e-4)
    student.reset_metrics()  # older Keras would average with the loss of `evaluate`
    before = teacher.get_weights()
    assert student.train_on_batch(x, labels)[0] == pytest.approx(expected, rel=1e-4)
    assert len(student.variables) == 2, "the teacher is no part of the student"
    for one, other in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A ResNet, whose family's preprocessing reverses the channels."""
    model = keras_archs.create_model("resnet18", input_shape=(32, 32, 3), classes=3)
    path = tmp_path_factory.mktemp("teacher") / "teacher.weights.h5"
    model.save_weights(path)
    return model, path


def config(teacher, **changes):
    return training.TrainConfig(model="mobilenet", dataset="any", teacher=str(teacher), **changes)


def test_a_teacher_gets_its_own_preprocessing_and_size(teacher):
    model, path = teacher
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    given = keras_archs.preprocess_input(pixels, "mobilenet")
    wanted = model(keras_archs.preprocess_input(pixels, "resnet18"))
    teach = load_teacher(config(f"resnet18:{path}"), Settings(config(""), (32, 32, 3), NAMES))
    np.testing.assert_allclose(teach(given), wanted, rtol=1e-3, atol=1e-5)
    # A student's family that reverses the channels, too, and a teacher with preprocessing inside.
    with_own = keras_archs.create_model(
        "mobilenet", alpha=0.25, input_shape=(32, 32, 3), classes=3, include_preprocessing=True
    )
    file = path.with_name("own.keras")
    with_own.save(file)
    other = training.TrainConfig(model="resnet18", dataset="any", teacher=str(file))
    teach = load_teacher(other, Settings(other, (32, 32, 3), NAMES))
    given = keras_archs.preprocess_input(pixels, "resnet18")
    np.testing.assert_allclose(teach(given), with_own(pixels), rtol=1e-3, atol=1e-5)
    assert teach(np.zeros((1, 64, 64, 3), "float32")).shape == (1, 3)


@pytest.mark.full
def test_a_teacher_may_end_in_logits(tmp_path):
    inputs = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, logits)
    model.save(tmp_path / "teacher.keras")
    given = config(tmp_path / "teacher.keras")
    teach = load_teacher(given, Settings(given, (8, 8, 3), NAMES))
    images = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(teach(images), softmax(np.asarray(model(images))), rtol=1e-5)


def test_teachers_that_do_not_fit_are_refused(tmp_path):
    def refuse(message, outputs, place="teacher.keras", channels=3, activation="softmax"):
        inputs = keras.Input((8, 8, channels))
        pooled = keras.layers.GlobalAveragePooling2D()(inputs)
        model = keras.Model(inputs, keras.layers.Dense(outputs, activation)(pooled))
        model.save(tmp_path / "teacher.keras")
        given = config(tmp_path / place)
        with pytest.raises(InputError, match=message):
            load_teacher(given, Settings(given, (32, 32, 3), NAMES))

    refuse(r"shape \(None, 3\).*got \(None, 4\)", 4)
    refuse("must return softmax scores or logits", 3, activation="sigmoid")
    refuse("1 channels", 3, channels=1)
    refuse("does not exist", 3, place="other.keras")
    (tmp_path / "text.keras").write_text("no model")
    refuse("not a Keras model", 3, place="text.keras")
    with pytest.raises(InputError, match="Did you mean 'resnet"):
        load_teacher(config("resnet5:imagenet"), Settings(config(""), (32, 32, 3), NAMES))
