"""Profiles a training step by kind of operation.

`python -m benchmarks.bench.operations SPEC` prints the shares of a candidate as JSON.
"""

import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.bench.worker import Spec, make_step

STEPS = 2
# The first match counts. The names are those of TensorFlow's kernels.
KINDS = (
    ("depthwise convolution", "DepthwiseConv2d"),
    ("convolution", "Conv2D|MatMul"),
    ("batch norm", "FusedBatchNorm|SquaredDifference|Rsqrt"),
    ("pooling", "Pool"),
    ("activation", "Relu|Sigmoid|Swish|Softplus|ExecuteAsyncOnStream"),
    ("elementwise", "^(Mul|Add|AddV2|AddN|Sub|RealDiv|Cast|SelectV2|Sum|Mean|Tile|BiasAdd.*)$"),
    ("layout", "Transpose|Pad|Slice|ConcatV2|Reshape"),
)
# Events of the executor that contain operations.
FRAMES = re.compile("^(Run|_*inference.*|.*Executor.*)$")


def shares(spec: Spec) -> dict[str, float]:
    """Returns each kind's share of the summed time of all operations, which can run in parallel."""
    import tensorflow as tf  # noqa: PLC0415  # the parent process does not need TensorFlow

    # TensorFlow has no public reader for its profiler's format.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # noqa: PLC0415

    step = make_step(spec)
    for _ in range(2):
        step()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(STEPS):
                step()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    times: Counter[str] = Counter()
    for plane in space.planes:
        names = {number: data.name for number, data in plane.event_metadata.items()}
        for line in plane.lines if "CPU" in plane.name else ():
            for event in line.events:
                times[_kind(names[event.metadata_id])] += event.duration_ps
    del times[""]
    total = sum(times.values())
    return {kind: time / total for kind, time in times.most_common()}


def _kind(event: str) -> str:
    """The kind of an event `node:Operation`. Empty if the event is not an operation."""
    _, colon, operation = event.partition("#")[0].rpartition(":")
    if not colon or "::" in event or FRAMES.match(operation):
        return ""
    return next((kind for kind, names in KINDS if re.search(names, operation)), "")


if __name__ == "__main__":
    print(json.dumps(shares(Spec.loads(sys.argv[1]))))
