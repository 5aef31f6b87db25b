"""Knowledge distillation: training with the scores of a teacher network (arXiv:1503.02531)."""

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

from ..runs.run_folder import Settings
from ..settings.config import TrainConfig
from .finetuning import Saved, read_saved

TINY = 1e-37
"""Lower limit of probabilities before the logarithm. The limit of float32 is near 1.2e-38."""

Teacher = Callable[[Any], Any]
"""Maps preprocessed images `(batch, height, width, channels)` to scores `(batch, classes)`."""


class Student(keras.Model):
    """A functional model whose training loss includes a teacher's scores.

    The student does not contain the teacher's variables, and neither do its files.

    Args:
        inputs, outputs: as in `keras.Model`. The outputs are probabilities `(batch, classes)`.
        teacher: see `Teacher`.
        weight: w in the loss `(1 - w) * loss + w * T**2 * KL(teacher, student)`.
        temperature: T of both softmaxes in the divergence (arXiv:1503.02531, section 2).
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
        self._teacher = teacher  # a function: Keras would track a model as a layer
        self._weight, self._temperature = weight, temperature

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        scores = ops.stop_gradient(self._teacher(x))
        distillation = ops.mean(divergence(scores, y_pred, self._temperature))
        # Losses are summed over all devices, so divide by their number, as Keras does.
        distillation *= self._temperature**2 / self.distribute_strategy.num_replicas_in_sync
        return (1 - self._weight) * loss + self._weight * distillation


def divergence(teacher: Any, student: Any, temperature: float) -> Any:
    """Returns the KL divergence `(batch,)` of two softmaxes at a temperature.

    Args:
        teacher, student: probabilities `(batch, classes)` at temperature 1. Their logarithms equal
            the logits up to a constant, which does not change a softmax.
        temperature: divisor of the logits.
    """
    logs = [
        ops.log_softmax(ops.log(ops.maximum(ops.cast(p, "float32"), TINY)) / temperature)
        for p in (teacher, student)
    ]
    return ops.sum(ops.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)


def names_network(place: str) -> bool:
    """Whether the setting `teacher` is NAME:WEIGHTS instead of a path."""
    return ":" in place and not local_path(place).exists()


def load_teacher(config: TrainConfig, student: Settings) -> Teacher:
    """Loads a run's teacher, which converts images to its own size and preprocessing.

    Raises:
        InputError: the teacher does not exist, or does not fit the student's classes or images.
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
        saved, teacher_preprocessing = Saved(network), find(name).family.preprocessing
    else:
        saved = read_saved("teacher", place)
        network, teacher_preprocessing = saved.network, find(config.model).family.preprocessing
        if saved.settings:
            teacher_preprocessing = find(saved.settings.config.model).family.preprocessing
    returns_logits = _check(saved, student)
    network.trainable = False
    preprocessing = find(config.model).family.preprocessing
    takes_pixels = any(isinstance(layer, PreprocessInput) for layer in network.layers)
    size = network.input_shape[1:3]

    def teach(images: Any) -> Any:
        if takes_pixels or teacher_preprocessing != preprocessing:
            images = preprocessing.undo(images)
            images = images if takes_pixels else teacher_preprocessing(images)
        if None not in size and tuple(images.shape[1:3]) != size:
            images = ops.image.resize(images, size, antialias=True)
        scores = ops.cast(network(images, training=False), "float32")
        return ops.softmax(scores) if returns_logits else scores

    return teach


def _check(saved: Saved, student: Settings) -> bool:
    """Whether a teacher's scores are logits. Raises an InputError if the teacher does not fit."""
    network, names, channels = saved.network, student.class_names, student.input_shape[-1]
    if saved.settings and saved.settings.class_names != names:
        raise InputError(
            f"teacher has the classes {', '.join(saved.settings.class_names)}, but the dataset has"
            f" {', '.join(names)}."
        )
    if network.output_shape != (None, len(names)):
        raise InputError(
            f"teacher must return scores of shape (None, {len(names)}), one per class of the"
            f" dataset, got {network.output_shape}."
        )
    if network.input_shape[-1] != channels:
        raise InputError(
            f"teacher takes images of {network.input_shape[-1]} channels, but the network takes"
            f" {channels}."
        )
    sides = [side or student.input_shape[0] for side in network.input_shape[1:3]]
    noise = np.random.default_rng(0).uniform(-1, 1, (1, *sides, channels))
    scores = ops.convert_to_numpy(network(noise.astype("float32"), training=False))
    if (scores >= 0).all() and np.allclose(scores.sum(), 1, atol=1e-2):
        return False
    if getattr(network.layers[-1], "activation", None) is keras.activations.sigmoid:
        raise InputError("teacher must return softmax scores or logits, got sigmoid scores.")
    return True
