"""Makes the files of this folder: `python -m tests.saved.make`.

They were made once, by the package before its modules moved, and prove that what users saved then
still loads. Do not make them again after a module has moved.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_archs
import tflite_export
import training
from tests.training.runs import checkpoints, finish, start, wait_for
from tests.training.tiny_net import registered

FOLDER = Path(__file__).parent


def layers_model() -> keras.Model:
    """Every public layer once."""
    x = inputs = keras.Input((8, 8, 8))
    x = keras_archs.BatchNormalization()(keras_archs.DepthwiseConv2D(3, padding="same")(x))
    x = keras_archs.Activation("swish")(x)
    x = keras_archs.SqueezeExcite(1 / 2)(x)
    x = keras_archs.ECA()(x)
    x = keras_archs.CBAM(1 / 2)(x)
    x = keras_archs.GlobalContext()(x)
    x = keras_archs.NonLocalBlock()(x)
    x = keras_archs.MultiHeadSelfAttention2D(2)(x)
    x = keras_archs.MultiQueryAttention2D(2, 4)(x)
    x = keras_archs.AttentionAugmentedConv2D(16, 3, kappa=0.5, nu=0.5, num_heads=2)(x)
    x = keras_archs.LocalResponseNormalization()(keras_archs.LayerScale()(x))
    x = keras_archs.StochasticDepth(0.1)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def classifier() -> keras.Model:
    """What quantisation-aware training rewrites: convolutions, gates, sums, means, a softmax."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = skip = keras_archs.Activation("swish")(keras_archs.BatchNormalization()(x))
    x = keras_archs.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    x = keras_archs.SqueezeExcite(1 / 2, gate_activation="hard_sigmoid")(x)
    x = keras.layers.Add()([x, skip])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))


def main() -> None:
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 255, (64, 4, 4, 3))
    images = np.asarray(keras.ops.image.resize(coarse, (16, 16)), "float32")
    maps = random.normal(size=(4, 8, 8, 8)).astype("float32")
    model = layers_model()
    model.set_weights(
        [random.uniform(0.1, 0.5, w.shape).astype(w.dtype) for w in model.get_weights()]
    )
    model.save(FOLDER / "layers.keras")
    aware = tflite_export.quantize_aware(classifier(), images)
    aware.save(FOLDER / "quantize_aware.keras")
    np.savez_compressed(
        FOLDER / "outputs.npz",
        maps=maps,
        layers=model.predict(maps, verbose=0),
        images=images[:8],
        quantize_aware=aware.predict(images[:8], verbose=0),
    )
    with registered(), tempfile.TemporaryDirectory() as place:
        runs(Path(place))


def runs(place: Path) -> None:
    """A finished run with most of what a run can have, and one that was killed."""
    config = training.TrainConfig(
        model="tinynet",
        dataset="fashion_mnist_small",
        image_size=32,
        epochs=2,
        batch_size=256,
        optimizer="adamw",
        learning_rate=0.01,
        model_args={"alpha": 0.5},
        ema=0.9,
        deterministic=True,
    )
    training.train(config, place / "finished")
    arguments = "--model tinynet --dataset fashion_mnist_small --image-size 32 --batch-size 256"
    arguments += " --epochs 3 --deterministic --checkpoint-steps 1 --ema 0.9 --optimizer lamb"
    out = place / "killed"
    process = start(out, *arguments.split())
    wait_for(lambda: "epoch" in str(checkpoints(out)) or len(checkpoints(out)) > 1, process)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    keep = shutil.ignore_patterns("tensorboard", "*.png", "report.html")
    for name in ("finished", "killed"):
        shutil.copytree(place / name, FOLDER / name, ignore=keep)
    assert finish(start(out, "--resume")) == 0
    shutil.copy(out / "last.keras", FOLDER / "resumed.keras")


if __name__ == "__main__":
    main()
