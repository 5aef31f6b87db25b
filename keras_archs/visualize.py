"""What a network sees: its feature maps, the pixels that speak for a class, attention.

All return matplotlib figures; matplotlib is imported when the first is drawn.
"""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from .errors import InputError
from .features import feature_info, layer_at
from .graph import calls, is_functional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What makes the gradient of a sure answer vanish.
SATURATING = (keras.activations.softmax, keras.activations.sigmoid)


def feature_maps(
    model: keras.Model, image: Any, layer: str | int | None = None, count: int = 16
) -> "Figure":
    """The first channels of a feature map, each scaled from its smallest to its largest value.

    Args:
        model: a functional model.
        image: one image as the model takes it, `(height, width, channels)`.
        layer: name of a layer, or a level of `feature_info`; by default the last map.
        count: number of channels to show.

    Raises:
        ValueError: the model has no such layer or level, or the image is not one image.
    """
    maps = _output_of(model, _layer(model, layer), _batch(image))[0]
    if maps.ndim != 3:
        raise InputError(f"layer={layer!r} gives {maps.shape} for an image, which is no map.")
    count = min(count, maps.shape[-1])
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    figure, axes = _figure(rows, columns)
    for index, axis in enumerate(axes):
        if index < count:
            axis.imshow(maps[..., index], cmap="viridis")
            axis.set_title(str(index), fontsize=8)
    figure.suptitle(f"{_layer(model, layer).name}, {count} of {maps.shape[-1]} channels")
    return figure


def grad_cam(
    model: keras.Model, image: Any, class_index: int | None = None, layer: str | int | None = None
) -> "Figure":
    """The parts of an image that speak for a class, over the image.

    Args:
        model: a functional classifier.
        image: one image as the model takes it, `(height, width, channels)`.
        class_index: the class; by default the one with the highest score.
        layer: name of a layer, or a level of `feature_info`; by default the last map.

    Raises:
        ValueError: the model has no such layer or class, or Keras does not run on TensorFlow.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    chosen = _layer(model, layer)
    heat, scores, index = _grad_cam(model, _batch(image), class_index, chosen)
    figure, (left, right) = _figure(1, 2)
    left.imshow(_displayed(image))
    right.imshow(_displayed(image))
    height, width = np.shape(image)[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    right.imshow(heat, cmap="jet", alpha=0.5, extent=extent, interpolation="bilinear")
    right.set_title(f"class {index}, score {scores[index]:.3g}", fontsize=9)
    figure.suptitle(f"Grad-CAM at {chosen.name}")
    return figure


def attention_map(
    model: keras.Model, image: Any, layer: str, position: tuple[float, float] = (0.5, 0.5)
) -> "Figure":
    """Where one position of a map looks, over the image; one picture for each head.

    Args:
        model: a functional model.
        image: one image as the model takes it, `(height, width, channels)`.
        layer: name of a layer with `return_attention_scores`: `NonLocalBlock`,
            `MultiHeadSelfAttention2D`, `MultiQueryAttention2D` or `GlobalContext`, which has one
            map for all positions.
        position: of the query, as shares of the height and width in [0, 1).

    Raises:
        ValueError: the layer has no attention scores, or the position lies outside.
    """
    chosen = _layer(model, layer)
    if not hasattr(chosen, "scores_shape"):
        raise InputError(f"layer={layer!r} is a {type(chosen).__name__}, without attention scores.")
    if not all(0 <= each < 1 for each in position):
        raise InputError(f"position must be two shares in [0, 1), got {position!r}.")
    inputs = _output_of(model, chosen, _batch(image), before=True)
    _, scores = chosen(inputs, return_attention_scores=True)
    heads = _by_head(np.asarray(scores)[0], inputs.shape[1:3], position)
    figure, axes = _figure(1, len(heads))
    height, width = np.shape(image)[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    for index, (axis, head) in enumerate(zip(axes, heads, strict=True)):
        axis.imshow(_displayed(image))
        axis.imshow(head, cmap="jet", alpha=0.5, extent=extent, interpolation="nearest")
        if scores.ndim > 3:
            axis.plot(position[1] * width, position[0] * height, "w+", markersize=12)
        axis.set_title(f"head {index}" if len(heads) > 1 else "", fontsize=9)
    figure.suptitle(f"Attention of {chosen.name}")
    return figure


def _by_head(
    scores: np.ndarray, size: tuple[int, int], position: tuple[float, float]
) -> np.ndarray:
    """`(heads, rows, columns)` of one query, from what the layers return for one image."""
    row, column = (int(share * side) for share, side in zip(position, size, strict=True))
    if scores.ndim == 2:
        return scores[None]
    if scores.ndim == 4:
        return scores[row, column][None]
    if scores.shape[:2] == tuple(size):  # heads behind the query
        return scores[row, column]
    return scores[:, row, column]


def _grad_cam(
    model: keras.Model, batch: np.ndarray, class_index: int | None, layer: keras.layers.Layer
) -> tuple[np.ndarray, np.ndarray, int]:
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"grad_cam needs Keras on TensorFlow, not {keras.backend.backend()}.")
    import tensorflow as tf  # noqa: PLC0415  # the rest runs on other backends, too

    both = keras.Model(model.input, [layer.output, model.outputs[0], _logits(model)])
    with tf.GradientTape(persistent=True) as tape:
        maps, scores, logits = both(batch, training=False)
        tape.watch(maps)
        classes = scores.shape[-1]
        index = int(np.argmax(scores[0])) if class_index is None else class_index
        if not 0 <= index < classes:
            raise InputError(f"class_index must lie in 0..{classes - 1}, got {class_index}.")
        logit = logits[0, index]
    # Small gradients vanish in half precision, large ones overflow: from the first scale that fits.
    for scale in (2.0**15, 2.0**8, 1.0):
        gradient = tape.gradient(logit, maps, output_gradients=tf.constant(scale, logit.dtype))
        gradient = tf.cast(gradient, "float32")
        if np.isfinite(gradient).all():
            break
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, "float32"), axis=-1))[0].numpy()
    return heat / (heat.max() or 1), np.asarray(scores[0], "float32"), index


def _logits(model: keras.Model) -> Any:
    """The scores in front of the last softmax or sigmoid, or the output itself without one."""
    last = next(
        call for call in calls(model) if any(out is model.outputs[0] for out in call.outputs)
    )
    layer, inputs = last.operation, last.inputs[0]
    if is_functional(layer):
        return keras.Model(layer.inputs, _logits(layer))(last.inputs)
    if isinstance(layer, keras.layers.Softmax):
        return inputs
    if getattr(layer, "activation", None) not in SATURATING:
        return model.outputs[0]
    if isinstance(layer, keras.layers.Activation):
        return inputs
    config = {**layer.get_config(), "activation": None, "name": f"{layer.name}_logits"}
    twin = type(layer).from_config(config)
    logits = twin(inputs)
    twin.set_weights(layer.get_weights())
    return logits


def _layer(model: keras.Model, layer: str | int | None) -> keras.layers.Layer:
    if layer is None:
        layer = feature_info(model)[-1].level
    return model.get_layer(layer_at(model, layer, "layer"))


def _output_of(
    model: keras.Model, layer: keras.layers.Layer, batch: np.ndarray, before: bool = False
) -> np.ndarray:
    part = keras.Model(model.input, layer.input if before else layer.output)
    return np.asarray(ops.convert_to_numpy(ops.cast(part(batch, training=False), "float32")))


def _batch(image: Any) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3:
        raise InputError(f"image must be (height, width, channels), got shape {image.shape}.")
    return image[None]


def _displayed(image: Any) -> np.ndarray:
    """`image` scaled to 0..1, one channel or three."""
    image = np.asarray(image, "float32")[..., :3]
    image = (image - image.min()) / max(np.ptp(image), 1e-12)
    return (
        image
        if image.shape[-1] == 3
        else image.mean(axis=-1).repeat(3).reshape(*image.shape[:2], 3)
    )


def _figure(rows: int, columns: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure  # noqa: PLC0415  # importing keras_archs must stay light

    figure = Figure(figsize=(2 + 2 * columns, 1 + 2 * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis in axes:
        axis.axis("off")
    return figure, axes
