"""Figures of feature maps, class activation (Grad-CAM) and attention.

All functions return matplotlib figures, which a notebook shows. Matplotlib is imported with the
first figure. `layer` is the name of a layer, such as `backbone/conv4` in a model inside the model,
or a level of `feature_info`. For a layer that is used several times, the first use is shown.

`image` is one image as the model takes it, `(height, width, channels)`: an array, a tensor, a list,
a PIL image, or a batch of one. It is not resized. Integers are refused if the model begins with a
convolution or a dense layer, since such a model does not preprocess them.
"""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops
from PIL import Image

from ..arguments import as_int, check_positive_int
from ..errors import InputError, shown
from ..graph import Call, flattened, functional, operations, tensors_at
from ..preprocessing import as_images
from .features import layer_at, levels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..display.figure import Figure

# Activations whose gradient vanishes for a confident prediction.
SATURATING = (keras.activations.softmax, keras.activations.sigmoid)


def feature_maps(
    model: keras.Model, image: Any, layer: str | int | None = None, count: int = 16
) -> "Figure":
    """Shows the first channels of a feature map, each scaled from its minimum to its maximum.

    Args:
        model: any functional Keras model on one image.
        image: one image, see above.
        layer: name of a layer, or a level of `feature_info`; by default the last map.
        count: number of channels to show.

    Raises:
        InputError: the model has no such layer or level, the layer gives no map, or the image is
            not one that the model takes.
    """
    model = _image_model(model)
    path = _path(model, layer)
    count = check_positive_int("count", count)
    batch = _batch(model, image)
    maps = _array(_run(model, batch, tensors_at(model, {path: "outputs"})[path]))[0]
    if maps.ndim != 3:
        raise InputError(
            f"layer must have an output [height, width, channels], got {path!r} with {maps.shape}."
        )
    count = min(count, maps.shape[-1])
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    figure, axes = _grid(rows, columns)
    for index, axis in enumerate(axes):
        if index < count:
            axis.imshow(maps[..., index], cmap="viridis")
            axis.set_title(str(index), fontsize=8)
    figure.suptitle(f"{path}, {count} of {maps.shape[-1]} channels")
    return figure


def grad_cam(
    model: keras.Model, image: Any, class_index: int | None = None, layer: str | int | None = None
) -> "Figure":
    """Shows the parts of an image that raise the score of a class, over the image.

    Args:
        model: any functional Keras classifier of one image, on the TensorFlow backend. If it has
            several outputs, the first is used.
        image: one image, see above.
        class_index: the class; by default the one with the highest score. A model with a single
            score has two classes: the score is that of class 1.
        layer: name of a layer, or a level of `feature_info`; by default the last map.

    Raises:
        InputError: the model is not a classifier, or has no such layer or class; it does not take
            the image; or Keras does not run on TensorFlow.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"grad_cam needs Keras on TensorFlow, not {keras.backend.backend()}.")
    model = _image_model(model)
    end = _end(model)
    classes = max(2, model.outputs[0].shape[-1])
    index = None if class_index is None else _class_index(class_index, classes)
    path = _path(model, layer)
    batch = _batch(model, image)
    heat, scores = _grad_cam(model, batch, index, path, end)
    index = int(np.argmax(scores)) if index is None else index
    figure, (left, right) = _grid(1, 2)
    left.imshow(_displayed(batch))
    right.imshow(_displayed(batch))
    right.imshow(heat, cmap="jet", alpha=0.5, extent=_extent(batch), interpolation="bilinear")
    right.set_title(f"class {index}, score {scores[index]:.3g}", fontsize=9)
    figure.suptitle(f"Grad-CAM at {path}")
    return figure


def attention_map(
    model: keras.Model, image: Any, layer: str, position: tuple[float, float] = (0.5, 0.5)
) -> "Figure":
    """Shows the attention of one position of a map, over the image; one picture for each head.

    Args:
        model: any functional Keras model on one image.
        image: one image, see above.
        layer: name of a layer with `return_attention_scores`: `NonLocalBlock`,
            `MultiHeadSelfAttention2D`, `MultiQueryAttention2D` or `GlobalContext`, which has one
            map for all positions.
        position: position of the query, as shares of the height and width in [0, 1).

    Raises:
        InputError: the layer has no attention scores, the position is outside the map, or the
            model does not take the image.
    """
    model = _image_model(model)
    path = _path(model, layer)
    chosen = dict(operations(model))[path]
    if not hasattr(chosen, "scores_shape"):
        raise InputError(
            f"layer must have attention scores, got {path!r}, a {type(chosen).__name__}."
        )
    if np.shape(position) != (2,) or not all(0 <= share < 1 for share in position):
        raise InputError(f"position must be two shares in [0, 1), got {shown(position)}.")
    batch = _batch(model, image)
    inputs = _run(model, batch, tensors_at(model, {path: "inputs"})[path])
    _, scores = chosen(inputs, return_attention_scores=True)
    heads = _by_head(_array(scores)[0], inputs.shape[1:3], position)
    figure, axes = _grid(1, len(heads))
    _, height, width, _ = batch.shape
    for index, (axis, head) in enumerate(zip(axes, heads, strict=True)):
        axis.imshow(_displayed(batch))
        axis.imshow(head, cmap="jet", alpha=0.5, extent=_extent(batch), interpolation="nearest")
        if scores.ndim > 3:
            axis.plot(position[1] * width, position[0] * height, "w+", markersize=12)
        axis.set_title(f"head {index}" if len(heads) > 1 else "", fontsize=9)
    figure.suptitle(f"Attention of {path}")
    return figure


def _by_head(
    scores: np.ndarray, size: tuple[int, int], position: tuple[float, float]
) -> np.ndarray:
    """The scores of one query, `(heads, rows, columns)`, from the scores of one image."""
    row, column = (int(share * side) for share, side in zip(position, size, strict=True))
    if scores.ndim == 2:
        return scores[None]
    if scores.ndim == 4:
        return scores[row, column][None]
    if scores.shape[:2] == tuple(size):  # heads after the query
        return scores[row, column]
    return scores[:, row, column]


def _grad_cam(
    model: keras.Model, batch: Any, index: int | None, path: str, end: Call
) -> tuple[np.ndarray, np.ndarray]:
    """The class activation of 0..1 over a map, and the score of each class."""
    import tensorflow as tf  # noqa: PLC0415  # the rest also runs on other backends

    tensors = tensors_at(
        model, {path: "outputs", end.path: "inputs" if _saturates(end.operation) else "outputs"}
    )
    if path == end.path or len(tensors[path].shape) != 4:
        raise InputError(
            f"layer must have an output [height, width, channels], got {path!r} with"
            f" {tensors[path].shape[1:]}."
        )
    both = keras.Model(model.inputs[0], [tensors[path], tensors[end.path]])
    batch = tf.convert_to_tensor(batch)
    with tf.GradientTape(persistent=True) as tape:
        # By itself the tape watches neither frozen weights nor the image.
        tape.watch([x.value for x in both.variables if "float" in x.dtype])
        if batch.dtype.is_floating:
            tape.watch(batch)
        maps, last = both(batch, training=False)
        scores, logits = _scores(end.operation, last)
        scores = np.asarray(scores[0], "float32")
        logit = logits[0, int(np.argmax(scores)) if index is None else index]
    # In half precision small gradients vanish and large ones overflow. Use the first scale that
    # gives finite gradients.
    for scale in (2.0**15, 2.0**8, 1.0):
        gradient = tape.gradient(logit, maps, output_gradients=tf.constant(scale, logit.dtype))
        if gradient is None:
            raise InputError(f"layer={path!r} has no influence on the scores of {model.name}.")
        gradient = tf.cast(gradient, "float32")
        if np.isfinite(gradient).all():
            break
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, "float32"), axis=-1))[0].numpy()
    return heat / (heat.max() or 1), scores


def _end(model: keras.Model) -> Call:
    """The call that gives the scores.

    Raises:
        InputError: the output is not scores of classes.
    """
    graph = flattened(model)
    made_by = {id(x): call for call in graph.calls for x in call.outputs}
    output = graph.outputs[0]
    end = made_by.get(id(output))
    if end is None or len(output.shape) != 2 or _is_pooling(end, made_by):
        raise InputError(
            f"model {model.name!r} gives {output.shape}, which are not scores of classes: add"
            " pooling and a Dense layer after it first, or build it with include_top=True."
        )
    return end


def _is_pooling(end: Call, made_by: dict[int, Call]) -> bool:
    """Whether the output is pooled features, not scores that a convolution gives by position."""
    pooling = layers.GlobalAveragePooling2D | layers.GlobalMaxPooling2D | layers.Flatten
    before = made_by.get(id(end.inputs[0]))
    scores = before and isinstance(before.operation, layers.Conv2D)
    return isinstance(end.operation, pooling) and not scores


def _saturates(operation: Any) -> bool:
    """Whether a layer or operation ends in a softmax or sigmoid."""
    if isinstance(operation, layers.Layer):
        saturates = getattr(operation, "activation", None) in SATURATING
        return saturates or isinstance(operation, layers.Softmax)
    # Keras does not export the classes of its operations.
    return type(operation).__name__ in {"Softmax", "Sigmoid"}


def _scores(operation: Any, last: Any) -> tuple[Any, Any]:
    """Scores and logits of each class.

    Args:
        operation: the last operation.
        last: its input if it saturates, else its output. A single score is that of class 1.
    """
    if not _saturates(operation):
        scores = logits = last
    else:
        scores, logits = operation(last), last
        if hasattr(operation, "activation") and not isinstance(operation, layers.Activation):
            config = {**operation.get_config(), "activation": None}
            twin = type(operation).from_config(config)
            twin.build(last.shape)
            twin.set_weights(operation.get_weights())
            logits = twin(last)
    if logits.shape[-1] > 1:
        return scores, logits
    others = -logits if scores is logits else 1 - scores
    return ops.concatenate([others, scores], -1), ops.concatenate([-logits, logits], -1)


def _image_model(model: keras.Model) -> keras.Model:
    """A functional model of `model`; an InputError if it does not take one image."""
    model = functional(model)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = ", ".join(str(tensor.shape) for tensor in model.inputs)
        raise InputError(
            f"model must take one image, (n, height, width, channels); {model.name} takes {shapes}."
        )
    return model


def _path(model: keras.Model, layer: str | int | None) -> str:
    if layer is None:
        features = levels_of(model)
        return features[max(features)]
    return layer_at(model, layer, "layer")


def _class_index(value: Any, classes: int) -> int:
    index = as_int(value)
    if index is None or not 0 <= index < classes:
        raise InputError(f"class_index must be an integer of 0..{classes - 1}, got {shown(value)}.")
    return index


def _run(model: keras.Model, batch: np.ndarray, tensor: Any) -> Any:
    return keras.Model(model.inputs[0], tensor)(batch, training=False)


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def _batch(model: keras.Model, image: Any) -> np.ndarray:
    """The image as a batch of one, in the type of the model's input.

    Raises:
        InputError: the model does not take the image.
    """
    _, *expected = model.inputs[0].shape
    gray = expected[-1] == 1
    if gray and len(getattr(image, "shape", ())) == 2:
        image = np.asarray(image)[..., None]
    array = np.asarray(as_images("image", image))
    if gray and isinstance(image, Image.Image):
        array = np.asarray(Image.fromarray(array).convert("L"))[..., None]
    pixels = array.astype(model.inputs[0].dtype)
    if pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.ndim != 3:
        raise InputError(
            f"image must be one image, (height, width, channels), got shape {pixels.shape}."
        )
    sides = zip(expected, pixels.shape, strict=True)
    if any(wanted not in {None, side} for wanted, side in sides):
        raise InputError(
            f"image has the shape {pixels.shape}, but {model.name} takes {tuple(expected)};"
            " resize it first."
        )
    if not np.isfinite(pixels).all():
        raise InputError("image holds NaN or infinity.")
    if array.dtype.kind in "biu" and pixels.dtype.kind == "f" and _starts_with_weights(model):
        raise InputError(
            f"image holds integers ({array.dtype}), which {model.name} does not preprocess itself:"
            " give keras_archs.preprocess_input(image, NAME), or image.astype('float32') if it was"
            " trained on such values."
        )
    return pixels[None]


def _starts_with_weights(model: keras.Model) -> bool:
    """Whether the first layer is a convolution or dense layer, which does not scale the image."""
    operations_of = (call.operation for call in flattened(model).calls)
    layer = next((x for x in operations_of if not isinstance(x, layers.ZeroPadding2D)), None)
    return isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense)


def _extent(batch: np.ndarray) -> tuple[float, float, float, float]:
    """The extent that `imshow` needs to draw a map of another resolution over the image."""
    _, height, width, _ = batch.shape
    return (-0.5, width - 0.5, height - 0.5, -0.5)


def _displayed(batch: np.ndarray) -> np.ndarray:
    """The image scaled to 0..1, one channel or three."""
    image = batch[0].astype("float32")[..., :3]
    image = (image - image.min()) / max(np.ptp(image), 1e-12)
    return (
        image
        if image.shape[-1] == 3
        else image.mean(axis=-1).repeat(3).reshape(*image.shape[:2], 3)
    )


def _grid(rows: int, columns: int) -> "tuple[Figure, list[Axes]]":
    from ..display.figure import grid  # noqa: PLC0415  # keras_archs must import fast

    return grid(rows, columns)
