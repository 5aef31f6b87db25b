"""The delegates that take the operators of a TFLite file, and the memory that it needs."""

import contextlib
from collections.abc import Iterable
from dataclasses import replace

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_archs.errors import InputError

from ..runtime.classifier import delegated
from .graph import Graph, Operator, Tensor

# The operators that the GPU delegate's check accepts, see `gpu_takes`.
GPU = """
ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS CUMSUM DENSIFY
DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP
FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU
LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6
RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE
SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STABLEHLO_CLAMP STRIDED_SLICE
SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV
"""


def operators(content: bytes) -> list[Operator]:
    """The operators of a TFLite file, in order.

    XNNPACK's operators are read from an interpreter with that delegate, so they are right for the
    installed LiteRT. The GPU delegate's operators come from a list, see `gpu_takes`.

    Raises:
        InputError: the file is damaged, or has control flow.
    """
    graph = Graph.read(content)
    # The interpreter has no custom operators, and cannot prepare a file that has some.
    runs = not any(operator.custom for operator in graph.operators)
    in_xnnpack = _in_xnnpack(content, graph) if runs else set()
    return [
        replace(
            operator,
            xnnpack=index in in_xnnpack,
            gpu=not operator.custom
            and gpu_takes(operator.name, (*operator.inputs, *operator.outputs)),
        )
        for index, operator in enumerate(graph.operators)
    ]


def gpu_takes(name: str, tensors: Iterable[Tensor]) -> bool:
    """Whether the GPU delegate takes a built-in operator with these inputs and outputs.

    TensorFlow's analyzer should report this, but in 2.21 it accepts every file, even one that
    sorts. The delegate itself needs a GPU. This function uses the list of operators in the
    delegate's check, and its rules for all tensors: at most four axes, and one of five types. It
    does not check further rules for single operators, such as their strides.

    Source: TensorFlow's lite/tools/versioning/gpu_compatibility.cc, and the shapes and types of
    lite/delegates/gpu/common/model_builder_helper.cc.
    """
    return name in GPU.split() and all(
        tensor.constant
        or (
            tensor.dtype in {"float32", "int8", "uint8", "int32", "bool"}
            and len(tensor.shape) <= 4
            and -1 not in tensor.shape
        )
        for tensor in tensors
    )


def arena_bytes(content: bytes) -> int:
    """Bytes that the interpreter allocates for a file's activations, without a delegate.

    The figure is read from an interpreter that is ready to run. Tensors that are not needed at the
    same time share memory. Weights and the working memory of fast kernels are not included.
    XNNPACK allocates its memory itself and does not report it; it keeps the same activations or
    fewer.

    Raises:
        InputError: the file is damaged, has a custom operator or control flow.
    """
    graph = Graph.read(content)
    # Fast kernels also allocate copies of their inputs.
    interpreter = _ready(content, OpResolverType.BUILTIN_REF)
    places = []
    for index in graph.activations():
        with contextlib.suppress(ValueError):  # its kernel allocates it at run time
            values = interpreter.tensor(index)()
            start = values.__array_interface__["data"][0]
            places.append((start, start + values.nbytes))
    return max(end for _, end in places) - min(start for start, _ in places)


def _ready(content: bytes, resolver: OpResolverType) -> Interpreter:
    try:
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"content cannot be prepared to run: {reason}") from error
    return interpreter


def _in_xnnpack(content: bytes, graph: Graph) -> set[int]:
    """Indices of the operators that XNNPACK takes."""
    parts = delegated(_ready(content, OpResolverType.BUILTIN))
    return set().union(*(graph.between(part["inputs"], part["outputs"]) for part in parts))
