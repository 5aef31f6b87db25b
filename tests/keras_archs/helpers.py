"""Random weights and images for comparisons with other implementations."""

import keras
import numpy as np


def randomize(model: keras.Model, seed: int = 0) -> None:
    """Moves biases, scales and moving statistics off their zeros and ones, so that they matter."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(generator.uniform(0.8, 1.2, weight.shape))
        elif weight.path.endswith(("beta", "moving_mean", "bias")):
            weight.assign(generator.normal(0, 0.1, weight.shape))


def images(size: int, count: int = 2, seed: int = 0) -> np.ndarray:
    """Float32 images of -1..1, `(count, size, size, 3)`."""
    shape = (count, size, size, 3)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """The largest difference is below `tolerance` times the largest value (at least 1)."""
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    assert np.abs(theirs).max() > 1e-3, "the reference is flat: a comparison would say nothing"
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()))
