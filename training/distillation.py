"""Learning from the scores of a network that is trained already (arXiv:1503.02531)."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_archs
from keras_archs.errors import InputError, as_given
from keras_archs.files import local_path
from keras_archs.preprocessing import PreprocessInput
from keras_archs.registry import find

from .config import TrainConfig
from .finetuning import Saved, read_saved
from .run_folder import Settings

TINY = 1e-37
"""The least probability whose logarithm is taken; float32's own limit is near 1.2e-38."""

Teacher = Callable[[Any], Any]
"""From preprocessed images `(batch, height, width, channels)` to scores `(batch, classes)`."""


class Student(keras.Model):
    """A functional model whose loss in training asks a teacher as well.

    The teacher is no part of it: neither its variables nor its files hold the teacher's.

    Args:
        inputs, outputs: as of `keras.Model`; the outputs are probabilities `(batch, classes)`.
        teacher: see `Teacher`.
        weight: w of the loss `(1 - w) * own + w * T**2 * KL(teacher, student)`.
        temperature: T, of both softmaxes of that divergence (arXiv:1503.02531, section 2).
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        teacher: Teacher,
        weight: float,
        temperature: float,
        name: str | None = None,
    ) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self._teacher = teacher  # a function: Keras would take a model for a layer of this one
        self._weight, self._temperature = weight, temperature

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        own = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return own
        scores = ops.stop_gradient(self._teacher(x))
        told = ops.mean(divergence(scores, y_pred, self._temperature))
        # As Keras' own part, a share of the sum over all devices.
        told = told * self._temperature**2 / self.distribute_strategy.num_replicas_in_sync
        return (1 - self._weight) * own + self._weight * told


def divergence(teacher: Any, student: Any, temperature: float) -> Any:
    """KL divergence of two softmaxes at a temperature, `(batch,)`, from those at 1.

    Args:
        teacher, student: probabilities `(batch, classes)`. Their logarithms are the logits but for
            a constant, which a softmax does not see.
    """
    logs = [
        ops.log_softmax(ops.log(ops.maximum(ops.cast(p, "float32"), TINY)) / temperature)
        for p in (teacher, student)
    ]
    return ops.sum(ops.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)


def names_network(place: str) -> bool:
    """Whether a `teacher` of the settings is NAME:WEIGHTS and not a path."""
    return ":" in place and not local_path(place).exists()


def load_teacher(config: TrainConfig, student: Settings) -> Teacher:
    """The teacher of a run, which gets the images in its own size and preprocessing.

    Raises:
        InputError: there is none there, or it does not fit the student's classes or images.
    """
    place = str(config.teacher)
    if names_network(place):
        name, _, weights = place.partition(":")
        with as_given(f"weights={weights!r}", f"teacher={place!r}"):
            network = keras_archs.create_model(
                name,
                input_shape=student.input_shape,
                classes=len(student.class_names),
                weights=weights,
            )
        saved, takes = Saved(network), find(name).family.preprocessing
    else:
        saved = read_saved("teacher", place)
        network, takes = saved.network, find(config.model).family.preprocessing
        if saved.settings:
            takes = find(saved.settings.config.model).family.preprocessing
    gives_logits = _check(saved, student)
    network.trainable = False
    given = find(config.model).family.preprocessing
    raw = any(isinstance(layer, PreprocessInput) for layer in network.layers)
    size = network.input_shape[1:3]

    def teach(images: Any) -> Any:
        if raw or takes != given:
            images = given.undo(images)
            images = images if raw else takes(images)
        if None not in size and tuple(images.shape[1:3]) != size:
            images = ops.image.resize(images, size, antialias=True)
        scores = ops.cast(network(images, training=False), "float32")
        return ops.softmax(scores) if gives_logits else scores

    return teach


def _check(saved: Saved, student: Settings) -> bool:
    """Whether a teacher's scores are logits; raises an InputError if it does not fit."""
    network, names, channels = saved.network, student.class_names, student.input_shape[-1]
    if saved.settings and saved.settings.class_names != names:
        raise InputError(
            f"teacher tells {', '.join(saved.settings.class_names)} apart, the dataset has"
            f" {', '.join(names)}."
        )
    if network.output_shape != (None, len(names)):
        raise InputError(
            f"teacher must give scores of the shape (None, {len(names)}), one for each class of the"
            f" dataset, got {network.output_shape}."
        )
    if network.input_shape[-1] != channels:
        raise InputError(
            f"teacher takes images of {network.input_shape[-1]} channels, the dataset's have"
            f" {channels}."
        )
    sides = [side or student.input_shape[0] for side in network.input_shape[1:3]]
    noise = np.random.default_rng(0).uniform(-1, 1, (1, *sides, channels))
    scores = ops.convert_to_numpy(network(noise.astype("float32"), training=False))
    if (scores >= 0).all() and np.allclose(scores.sum(), 1, atol=1e-2):
        return False
    if getattr(network.layers[-1], "activation", None) is keras.activations.sigmoid:
        raise InputError("teacher must end in a softmax or in logits; it ends in sigmoids.")
    return True
