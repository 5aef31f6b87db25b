"""Trains in less memory: the maps of a stage are computed again for its gradient."""

from collections.abc import Iterable
from typing import Any

import keras

from ..analysis.features import levels_of, wanted_levels
from ..errors import InputError
from ..graph import cloned, functional, inner_layers, tensors_at
from ..layers.block import register
from ..layers.drop_in.batch_norm import BatchNormalization
from ..layers.recompute import recomputation
from ..layers.stochastic_depth import StochasticDepth


def rematerialize(model: keras.Model, levels: int | Iterable[int]) -> keras.Model:
    """The same network for training in less memory: some of its stages do not keep their maps.

    The forward pass keeps only the input of such a stage. The backward pass computes the stage
    again. Gradients and statistics are the same; training takes less memory and more time. Early
    stages have the largest maps. `docs/benchmarks.md` has figures.

    Args:
        model: a functional model on the TensorFlow backend; it is not changed.
        levels: the stages, as levels of `feature_info`. The stage of level 3 is between the last
            map of level 2 and the last map of level 3. If a stage ends inside an inner model, it
            also begins in that model.

    Returns:
        A functional model that shares all layers, and so all weights, with `model`. Train the
        returned model, then save and use `model`.

    Raises:
        InputError: the model is not functional, has several outputs or no such level, or is on
            another backend. Or a stage has a layer with random numbers, statistics or a loss that
            keras_archs does not define: computed twice, it would change the result.

    Source: Chen et al. 2016, arXiv:1604.06174.
    """
    model = functional(model)
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"rematerialize needs Keras on TensorFlow, not {keras.backend.backend()}.")
    if len(model.outputs) != 1:
        raise InputError(f"model must have one output, but {model.name} has {len(model.outputs)}.")
    features = levels_of(model)
    return _in_stages(model, features, wanted_levels(levels, features, model))


def _in_stages(model: keras.Model, features: dict[int, str], wanted: list[int]) -> keras.Model:
    """Rematerializes the wanted stages of `model`; `features` are its paths by level."""
    inside: dict[int, keras.Model] = {}
    for name in {path.split("/")[0] for path in features.values() if "/" in path}:
        inner = model.get_layer(name)
        below = {
            level: path.removeprefix(f"{name}/")
            for level, path in features.items()
            if path.startswith(f"{name}/")
        }
        if chosen := [level for level in wanted if level in below]:
            inside[id(inner)] = _in_stages(functional(inner), below, chosen)
    if inside:
        model = cloned(model, clone=lambda layer: inside.get(id(layer), layer))
    ends = {level: path for level, path in features.items() if "/" not in path}
    if not ends.keys() & set(wanted):
        return model
    tensors = tensors_at(model, dict.fromkeys(ends.values(), "outputs"))
    begin = x = model.input
    for level in sorted(ends):
        end = tensors[ends[level]]
        stage = keras.Model(begin, end, name=f"stage{level}")
        if level in wanted:
            _check_repeatable(stage, level)
            x = Rematerialized(stage, name=f"rematerialized{level}")(x)
        else:
            x = stage(x)
        begin = end
    if begin is model.output:
        return keras.Model(model.input, x, name=model.name)
    head = keras.Model(begin, model.output, name="head")
    return keras.Model(model.input, head(x), name=model.name)


@register
class Rematerialized(keras.layers.Layer):
    """A stage of a network that computes its maps again for the gradient.

    Args:
        stage: a functional model with one input and one output, whose layers with random numbers
            or statistics are those of keras_archs.
    """

    def __init__(self, stage: keras.Model | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # In a file the stage is a dict.
        stage = keras.saving.deserialize_keras_object(stage) if isinstance(stage, dict) else stage
        self.stage: keras.Model = stage

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training:
            return self.stage(inputs, training=training)
        runs = 0
        drawn: list[Any] = []

        def run(x: Any) -> Any:
            nonlocal runs
            runs += 1
            with recomputation(runs > 1, drawn):
                return self.stage(x, training=training)

        return keras.remat(run)(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return self.stage.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        stage = keras.saving.serialize_keras_object(self.stage)
        return {**super().get_config(), "stage": stage}


def _check_repeatable(stage: keras.Model, level: int) -> None:
    for layer in inner_layers(stage):
        if type(layer) in {BatchNormalization, StochasticDepth}:
            continue
        # Only the states of random number generators are integer variables.
        draws = any("int" in variable.dtype for variable in layer.non_trainable_variables)
        moves = isinstance(layer, keras.layers.BatchNormalization)
        if moves or layer.activity_regularizer or (draws and not any(inner_layers(layer))):
            raise InputError(
                f"levels: {layer.name} in the stage of level {level} is a {type(layer).__name__},"
                " which cannot be computed twice; leave this level out."
            )
