"""Moving averages of weights against a computation by hand."""

import keras
import numpy as np
import pytest

from training.optim.ema import Averages

DECAY = 0.3  # below (1 + t) / (10 + t) from the third step on


@pytest.mark.parametrize("accumulate", [1, 2])
def test_averages_follow_weights_and_statistics_by_steps_of_the_optimizer(accumulate):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    )
    optimizer = keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=accumulate if accumulate > 1 else None
    )
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    averages = Averages(model, DECAY)
    expected = [weight.astype("float64") for weight in model.get_weights()]
    generator = np.random.default_rng(0)
    for batch in range(1, 9):
        model.train_on_batch(generator.normal(2, 1, (8, 4)), generator.normal(size=(8, 2)))
        averages.update()
        if batch % accumulate == 0:
            t = batch // accumulate
            decay = min(DECAY, (1 + t) / (10 + t))
            expected = [
                decay * average + (1 - decay) * weight
                for average, weight in zip(expected, model.get_weights(), strict=True)
            ]
        own = model.get_weights()
        with averages.in_model():
            assert len(model.get_weights()) == 6  # the norm's four, two of them statistics
            for one, other in zip(model.get_weights(), expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
        for one, other in zip(model.get_weights(), own, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_models_own_weights_come_back_after_an_error():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    averages = Averages(model, DECAY)
    model.set_weights([np.ones((2, 1)), np.ones(1)])

    def interrupted():
        with averages.in_model():
            assert not np.array_equal(model.get_weights()[0], np.ones((2, 1)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((2, 1)))
