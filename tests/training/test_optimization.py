"""Optimizers, schedules and losses against independent computations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_archs
import training
from training.model.finetuning import layer_rates
from training.model.schedules import make_loss, make_optimizer, make_schedule

RATE = 0.1


def config(**changes):
    """A constant learning rate unless told otherwise."""
    return training.TrainConfig(
        **{
            "model": "mobilenet",
            "dataset": "any",
            "learning_rate": RATE,
            "warmup_epochs": 0,
            "schedule": "step",
            "decay_epochs": 1000,
            **changes,
        }
    )


@pytest.fixture
def dense():
    """A kernel and a bias, and six gradients of each."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer="ones")])
    generator = np.random.default_rng(0)
    shapes = [weight.shape for weight in model.trainable_weights]
    gradients = [[generator.normal(size=s).astype("float32") for s in shapes] for _ in range(6)]
    return model, gradients


def values(model):
    return [np.array(weight) for weight in model.trainable_weights]


def apply(settings_, model, gradients, steps_per_epoch=6):
    optimizer = make_optimizer(settings_, model, steps_per_epoch)
    for each in gradients:
        optimizer.apply(each, model.trainable_weights)
    return values(model)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_rmsprop_is_tensorflows(dense, decay):
    model, gradients = dense
    kernel, bias = (tf.Variable(value) for value in values(model))
    reference = tf.compat.v1.train.RMSPropOptimizer(RATE, decay=0.9, momentum=0.9, epsilon=1e-3)
    for of_kernel, of_bias in gradients:
        # The gradient of decay / 2 * kernel**2, an L2 loss.
        pairs = [(of_kernel + decay * kernel, kernel), (tf.constant(of_bias), bias)]
        reference.apply_gradients(pairs)
    found = apply(config(optimizer="rmsprop", weight_decay=decay), model, gradients)
    np.testing.assert_allclose(found[0], kernel, rtol=1e-5)
    np.testing.assert_allclose(found[1], bias, rtol=1e-5)


def test_lamb_is_the_papers(dense):
    """Algorithm 2 of arXiv:1904.00962, with Adam's steps for biases."""
    model, gradients = dense
    decay, weights = 0.3, [value.astype("float64") for value in values(model)]
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    for t, of_step in enumerate(gradients, 1):
        for i, g in enumerate(of_step):
            means[i] = 0.9 * means[i] + 0.1 * g
            squares[i] = 0.999 * squares[i] + 0.001 * g.astype("float64") ** 2
            r = means[i] / (1 - 0.9**t) / (np.sqrt(squares[i] / (1 - 0.999**t)) + 1e-6)
            ratio = 1.0
            if weights[i].ndim == 2:
                r += decay * weights[i]
                ratio = np.linalg.norm(weights[i]) / np.linalg.norm(r)
            weights[i] -= RATE * ratio * r
    found = apply(config(optimizer="lamb", weight_decay=decay), model, gradients)
    for one, other in zip(found, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_adamw_is_the_papers(dense):
    """Algorithm 2 of arXiv:1711.05101."""
    model, gradients = dense
    decay, (weight, _) = 0.3, values(model)
    mean, square = np.zeros_like(weight), np.zeros_like(weight)
    for t, (g, _) in enumerate(gradients, 1):
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        step = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-7)
        weight = weight - RATE * (step + decay * weight)
    found = apply(config(optimizer="adamw", weight_decay=decay), model, gradients)
    np.testing.assert_allclose(found[0], weight, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "lamb"])
def test_accumulated_batches_are_one_large_batch(dense, optimizer):
    """The schedule, too, goes by steps of the optimizer and not by batches."""
    model, gradients = dense
    start = values(model)
    same = {"optimizer": optimizer, "schedule": "cosine", "epochs": 2, "warmup_epochs": 0.5}
    found = apply(config(accumulate=3, **same), model, gradients, steps_per_epoch=6)
    model.set_weights(start)
    means = [
        [np.mean([each[i] for each in gradients[j : j + 3]], axis=0) for i in range(2)]
        for j in (0, 3)
    ]
    expected = apply(config(**same), model, means, steps_per_epoch=2)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert not np.allclose(expected[0], start[0])


def test_clipping_goes_by_the_norm_of_all_gradients(dense):
    model, gradients = dense
    before = values(model)
    large = [100 * each for each in gradients[0]]
    after = apply(config(optimizer="sgd", clip_norm=2.0, weight_decay=0), model, [large])
    norm = np.sqrt(sum((each**2).sum() for each in large))
    for one, other, gradient in zip(before, after, large, strict=True):
        # Nesterov's first step is 1.9 times the gradient.
        np.testing.assert_allclose(one - other, RATE * 1.9 * 2 * gradient / norm, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["step", "exponential"]),
    steps=st.integers(1, 50),
    warmup=st.sampled_from([0, 1, 3]),
    decay_epochs=st.sampled_from([0.5, 1.0, 2.4]),
    step=st.integers(0, 400),
)
def test_falling_schedules(kind, steps, warmup, decay_epochs, step):
    schedule = make_schedule(
        config(
            schedule=kind,
            epochs=8,
            warmup_epochs=warmup,
            decay_epochs=decay_epochs,
            decay_rate=0.5,
            final_learning_rate=0.01,
        ),
        steps,
    )
    rising, step = warmup * steps, min(step, 8 * steps)
    times = (step - rising) / (decay_epochs * steps)
    if kind == "step":
        if abs(times - round(times)) < 1e-3:
            return  # at the edge, rounding decides
        times = np.floor(times)
    expected = RATE * step / rising if step < rising else max(0.01, RATE * 0.5**times)
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_early_stages_learn_slower(optimizer):
    model = keras_archs.create_model("mobilenet", alpha=0.25, input_shape=(32, 32, 3), classes=3)
    before = [np.array(weight) for weight in model.trainable_weights]
    settings_ = config(optimizer=optimizer, layer_decay=0.5, weight_decay=0)
    make_optimizer(settings_, model, 10).apply(
        [np.ones(weight.shape, "float32") for weight in model.trainable_weights],
        model.trainable_weights,
    )
    steps = {
        weight.path: np.mean(old - np.array(weight))
        for old, weight in zip(before, model.trainable_weights, strict=True)
    }
    head = steps["conv_preds/kernel"]
    assert head == pytest.approx(RATE * (1.9 if optimizer == "sgd" else 1), rel=1e-3)
    # Maps of stride 2, 4, 8, 16 and 32, and behind them the classifier.
    for layer, stage in {"conv1": 5, "conv_pw_3": 4, "conv_pw_13": 1}.items():
        kernel = next(v for k, v in steps.items() if k.startswith(layer) and "kernel" in k)
        assert kernel == pytest.approx(head * 0.5**stage, rel=1e-2)


def test_early_stages_decay_slower():
    model = keras_archs.create_model("mobilenet", alpha=0.25, input_shape=(32, 32, 3), classes=3)
    kernels = [model.get_layer(name).kernel for name in ("conv1", "conv_preds")]
    before = [np.array(kernel) for kernel in kernels]
    make_optimizer(config(layer_decay=0.5, weight_decay=0.5), model, 10).apply(
        [np.zeros(weight.shape, "float32") for weight in model.trainable_weights],
        model.trainable_weights,
    )
    for kernel, old, share in zip(kernels, before, (0.5**5, 1.0), strict=True):
        np.testing.assert_allclose(kernel, old * (1 - RATE * share * 0.5), rtol=1e-5)
    assert set(layer_rates(model, None)) == {1.0}
    inputs = keras.Input((32, 32, 3))
    assert layer_rates(keras.Model(inputs, model(inputs)), 0.5) == layer_rates(model, 0.5)


def test_binary_loss_counts_each_mixed_class_as_shown():
    labels = np.array([[0.7, 0.3, 0.0, 0.0], [0.95, 0.05, 0.0, 0.0]], "float32")
    scores = np.array([[0.8, 0.4, 0.1, 0.2], [0.9, 0.3, 0.2, 0.1]], "float32")
    shown = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
    for smoothing in (0.0, 0.2):
        targets = shown * (1 - smoothing) + smoothing / 4
        expected = -(targets * np.log(scores) + (1 - targets) * np.log(1 - scores)).mean()
        found = make_loss(config(loss="binary", label_smoothing=smoothing))(labels, scores)
        assert np.mean(found) == pytest.approx(expected, rel=1e-4)
