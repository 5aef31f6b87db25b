"""A process that runs a candidate of a comparison on request.

`python -m benchmarks.bench.worker SPEC`, where SPEC is a `Spec` as JSON. The process prints
`ready`. For each number n on its input, it runs n steps and prints their seconds. At the end of the
input, it prints its peak memory in megabytes.
"""

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np

Step = Callable[[], object]


@dataclass(frozen=True)
class Spec:
    """A candidate of a comparison.

    Attributes:
        package: `keras_archs`, `keras.applications`, `keras_hub` or `timm`.
        model: name of a builder in the package.
        task: `train`, `infer`, or `fused` (inference with folded batch norms).
        precision: `float32`, `mixed_bfloat16` or `mixed_float16`.
        batch: images in a step.
        size: height and width of an image in pixels.
        compiled: whether XLA (Keras) or torch.compile (timm) compiles the step.
        remat: levels whose stages are recomputed for the gradient.
    """

    package: str
    model: str
    task: str = "train"
    precision: str = "float32"
    batch: int = 32
    size: int = 224
    compiled: bool = False
    remat: tuple[int, ...] = ()

    def dumps(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Spec":
        fields = json.loads(text)
        return cls(**{**fields, "remat": tuple(fields["remat"])})


def make_step(spec: Spec) -> Step:
    """Returns a function that runs a step of a candidate on random images."""
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (spec.batch, spec.size, spec.size, 3)).astype("float32")
    labels = generator.integers(0, 1000, spec.batch).astype("int32")
    return (timm_step if spec.package == "timm" else keras_step)(spec, images, labels)


def keras_step(spec: Spec, images: np.ndarray, labels: np.ndarray) -> Step:
    import keras  # noqa: PLC0415  # timm's candidates do not need Keras
    import tensorflow as tf  # noqa: PLC0415

    keras.config.set_dtype_policy(spec.precision)
    model = keras_model(spec)
    x, y = tf.constant(images), tf.constant(labels)
    if spec.task == "train":
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            "sparse_categorical_crossentropy",
            jit_compile=spec.compiled,
        )
        return lambda: model.train_on_batch(x, y)
    model.compile(jit_compile=spec.compiled)
    return lambda: model.predict_on_batch(x)


def keras_model(spec: Spec) -> Any:
    import keras  # noqa: PLC0415

    shape = (spec.size, spec.size, 3)
    if spec.package == "keras.applications":
        return getattr(keras.applications, spec.model)(weights=None, input_shape=shape)
    if spec.package == "keras_hub":
        from benchmarks.bench.peers import keras_hub_model  # noqa: PLC0415

        return keras_hub_model(spec.model, shape)
    import keras_archs  # noqa: PLC0415

    model = getattr(keras_archs, spec.model)(input_shape=shape)
    if spec.task == "fused":
        return keras_archs.fuse(model)
    if spec.remat:
        return keras_archs.rematerialize(model, spec.remat)
    return model


def timm_step(spec: Spec, images: np.ndarray, labels: np.ndarray) -> Step:
    import torch  # noqa: PLC0415

    from benchmarks.bench.peers import timm_model  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True  # TensorFlow also searches for the fastest kernels
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)
    y = torch.from_numpy(labels).long().to(device)
    model = timm_model(spec.model, spec.size).to(device, memory_format=torch.channels_last)
    model.train(spec.task == "train")
    half = {"mixed_bfloat16": torch.bfloat16, "mixed_float16": torch.float16}.get(spec.precision)
    scaler = torch.amp.GradScaler(device, enabled=half is torch.float16)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    forward = torch.compile(model) if spec.compiled else model

    def train() -> float:
        with torch.autocast(device, half, enabled=half is not None):
            loss = torch.nn.functional.cross_entropy(forward(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def infer() -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device, half, enabled=half is not None):
            return forward(x).float().cpu().numpy()

    return train if spec.task == "train" else infer


def peak_megabytes() -> float:
    # `resource` would report at least the peak of the parent process.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def main() -> None:
    step = make_step(Spec.loads(sys.argv[1]))
    for _ in range(2):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - start, flush=True)
    print(peak_megabytes(), flush=True)


if __name__ == "__main__":
    main()
