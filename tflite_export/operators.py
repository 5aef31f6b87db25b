"""What a TFLite file consists of, and which of its operators the delegates take."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_archs.errors import InputError

from .file_graph import Graph, Tensor

# The operators that the check of the GPU delegate lets pass, see `gpu_takes`.
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


@dataclass(frozen=True)
class Operator:
    """A step of a file.

    Attributes:
        name: of a built-in operator, such as `CONV_2D`, or of a custom one, such as `FlexErf`.
        version: of the operator; older runtimes know lower ones only.
        custom: whether it is none of the built-in operators, so that a plain runtime cannot run
            the file.
        inputs: what it reads, weights among them.
        outputs: what it computes.
        xnnpack: whether XNNPACK, the delegate for CPUs, takes it.
        gpu: whether the GPU delegate takes it, by a list.
    """

    name: str
    version: int
    custom: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    xnnpack: bool
    gpu: bool

    def __str__(self) -> str:
        inputs, outputs = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"{self.name}({inputs}) -> {outputs}"


def operators(content: bytes) -> list[Operator]:
    """The operators of a TFLite file, in their order.

    What XNNPACK takes is read from an interpreter that has handed its part over, so that it holds
    for the LiteRT that is installed. What the GPU delegate takes is a list: see `gpu_takes`.

    Raises:
        InputError: the file is damaged, or has control flow.
    """
    graph = Graph.read(content)
    # An interpreter without custom operators cannot be made ready for them.
    runs = not any(node.custom for node in graph.nodes)
    taken = _in_xnnpack(content, graph) if runs else set()
    found = []
    for index, node in enumerate(graph.nodes):
        inputs = tuple(graph.tensors[i] for i in node.inputs)
        outputs = tuple(graph.tensors[i] for i in node.outputs)
        gpu = not node.custom and gpu_takes(node.name, (*inputs, *outputs))
        found.append(
            Operator(node.name, node.version, node.custom, inputs, outputs, index in taken, gpu)
        )
    return found


def gpu_takes(name: str, tensors: Iterable[Tensor]) -> bool:
    """Whether the GPU delegate takes a built-in operator on such inputs and outputs.

    TensorFlow's analyzer, which is to tell it, finds fault with nothing in 2.21 (not with a file
    that sorts, say), and the delegate itself needs a GPU. So this is the list of operators of the
    delegate's own check, with what holds for the tensors of all: at most four axes, and no type
    but these. What it asks of single operators beside that, such as their strides, is left out.

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
    """Bytes that the interpreter lays out for a file's activations, without a delegate.

    It is read from an interpreter that was made ready to run: tensors that are not needed at the
    same time share their place there. Weights are not in it, nor is the working memory of fast
    kernels. XNNPACK plans its memory itself and tells nobody how much it takes; it has the same
    activations to keep, or fewer.

    Raises:
        InputError: the file is damaged, has a custom operator or control flow.
    """
    graph = Graph.read(content)
    # Kernels that are made to be fast also lay out copies of their inputs.
    interpreter = _ready(content, OpResolverType.BUILTIN_REF)
    places = []
    for index in graph.activations():
        with contextlib.suppress(ValueError):  # its kernel allocates it while it runs
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
        raise InputError(f"content cannot be made ready to run: {reason}") from error
    return interpreter


def _in_xnnpack(content: bytes, graph: Graph) -> set[int]:
    """Numbers of the nodes that XNNPACK takes.

    An interpreter has no public method for that. The private one lists the nodes of the file and
    behind them those that stand for a delegate's part, with the tensors that go in and come out.
    """
    nodes = _ready(content, OpResolverType.BUILTIN)._get_ops_details()[len(graph.nodes) :]
    parts = [graph.between(node["inputs"], node["outputs"]) for node in nodes]
    return set().union(*parts)
