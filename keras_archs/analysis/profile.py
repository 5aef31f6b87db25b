"""The cost of a model, layer by layer: parameters, multiply-adds and activation memory."""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from ..display.formatting import byte_size, html_table
from ..errors import InputError
from ..graph import Call, cloned, flattened, functional, opened, symbolic


@dataclass(frozen=True)
class LayerProfile:
    """The cost of one call of a layer, for one image.

    Attributes:
        name: path of the layer: its name after the names of the models around it.
        type: class of the layer.
        output_shape: shape of the first output without the batch.
        parameters: weights of the layer; 0 for later calls of a shared layer.
        multiply_adds: multiply-adds of convolutions, dense layers and matrix products, including
            those inside attention and other layers made of layers. Biases, norms, activations and
            pooling do not count, as in the papers' tables.
        activation_bytes: bytes of the outputs.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclass(frozen=True)
class Profile:
    """The cost of a model for one image. `print` and notebooks show it as a table.

    Attributes:
        name: name of the model.
        layers: one entry for each call, in the order of the graph.
    """

    name: str
    layers: tuple[LayerProfile, ...]

    @property
    def parameters(self) -> int:
        """All weights, including the moving statistics of batch norms."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' outputs: about what training keeps in memory for one image."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def summary(self) -> str:
        """The totals in one line."""
        return (
            f"{self.name}: {self.parameters / 1e6:.2f} M parameters,"
            f" {self.multiply_adds / 1e6:.1f} M multiply-adds,"
            f" {byte_size(self.activation_bytes)} activations for each image"
        )

    def __repr__(self) -> str:
        layers = "1 layer" if len(self.layers) == 1 else f"{len(self.layers)} layers"
        return f"<Profile of {self.summary}, {layers}>"

    def __str__(self) -> str:
        width = max([31, *(len(layer.name) for layer in self.layers)]) + 1
        rows = [
            f"{name:{width}}{shape:>20}{parameters:>14}{multiply_adds:>16}{size:>14}"
            for name, shape, parameters, multiply_adds, size in (_HEAD, *map(_cells, self.layers))
        ]
        return "\n".join([*rows, self.summary])

    def _repr_html_(self) -> str:
        """The same table for a notebook."""
        return html_table(_HEAD, map(_cells, self.layers), self.summary)


_HEAD = ("layer", "output", "parameters", "multiply-adds", "bytes")


def _cells(layer: LayerProfile) -> tuple[str, ...]:
    counts = layer.parameters, layer.multiply_adds, layer.activation_bytes
    return layer.name, str(layer.output_shape), *(f"{count:,}" for count in counts)


def profile(model: keras.Model, input_shape: tuple[int, int, int] | None = None) -> Profile:
    """Counts parameters, multiply-adds and activation memory of a functional model.

    Args:
        model: any functional Keras model, including nested models; it is not run.
        input_shape: `(height, width, channels)` in place of the model's input shape; needed if the
            model's height or width is None.

    Raises:
        InputError: the model is not functional, or its input has no fixed size and no
            `input_shape` is given.
    """
    model = functional(model)
    if input_shape is not None:
        if len(model.inputs) != 1:
            raise InputError(
                f"input_shape needs a model with one input, but {model.name} has"
                f" {len(model.inputs)}."
            )
        with symbolic():
            resized = keras.Input(input_shape, dtype=model.inputs[0].dtype)
            model = cloned(model, keras.tree.map_structure(lambda _: resized, model.input))
    elif any(None in tensor.shape[1:] for tensor in model.inputs):
        raise InputError(
            f"{model.name} takes inputs of any size {model.input_shape}; give profile an"
            " input_shape=(height, width, channels)."
        )
    batch = model.inputs[0].shape[0] or 1
    seen: set[int] = set()
    rows = []
    for call in flattened(model).calls:
        layer = call.operation
        rows.append(
            LayerProfile(
                name=call.path,
                type=type(layer).__name__,
                output_shape=tuple(call.outputs[0].shape[1:]),
                parameters=_parameters(layer) if id(layer) not in seen else 0,
                # Calls inside a layer are counted for one image, for any batch size.
                multiply_adds=_multiply_adds(call) // batch
                + sum(map(_multiply_adds, opened(call))),
                activation_bytes=sum(map(_bytes, call.outputs)),
            )
        )
        seen.add(id(layer))
    return Profile(model.name, tuple(rows))


def _parameters(operation: Any) -> int:
    return sum(math.prod(weight.shape) for weight in getattr(operation, "weights", ()))


def _bytes(tensor: Any) -> int:
    bits = {"bool": 8, "bfloat16": 16}.get(tensor.dtype) or int(tensor.dtype.lstrip("uintfloa"))
    return math.prod(tensor.shape[1:]) * bits // 8


def _multiply_adds(call: Call) -> int:
    """Positions of the map times weights of the kernel, for all images of the batch.

    A batch of unknown size counts as one image.
    """
    layer = call.operation
    # Inside a layer the first axis is known. It may be the heads of one image.
    positions = _positions(call.outputs[0])
    # Keras does not export the classes of its operations.
    match type(layer).__name__:
        case "Matmul":
            return positions * call.outputs[0].shape[-1] * call.inputs[0].shape[-1]
        case "Einsum":
            return _einsum(layer.subscripts, call)
    match layer:
        case layers.Conv2DTranspose() | layers.Conv1DTranspose() | layers.Conv3DTranspose():
            positions = _positions(call.inputs[0])
            kernels = [layer.kernel]
        case layers.SeparableConv1D() | layers.SeparableConv2D():
            kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
        case (
            layers.Conv1D()
            | layers.Conv2D()
            | layers.Conv3D()
            | layers.DepthwiseConv1D()
            | layers.DepthwiseConv2D()
            | layers.Dense()
        ):
            kernels = [layer.kernel]
        case _:
            kernels = []
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)


def _positions(tensor: Any) -> int:
    return math.prod(size for size in tensor.shape[:-1] if size is not None)


def _einsum(subscripts: str, call: Call) -> int:
    """The product of the sizes of all axes; the batch is the axis of unknown size."""
    inputs, output = subscripts.split("->")
    sizes = dict(zip(output, call.outputs[0].shape, strict=True))
    sizes |= dict(zip(inputs.split(",")[0], call.inputs[0].shape, strict=True))
    return math.prod(size for size in sizes.values() if size is not None)
