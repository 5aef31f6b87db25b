"""Trains a small network of each family on Fashion-MNIST with the same recipe."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import training


@dataclass(frozen=True)
class Variant:
    """A network, its image size, and other settings that differ from the recipe."""

    model: str
    image_size: int
    model_args: dict[str, Any] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)

    def settings(self, dataset: str, epochs: int | None) -> dict[str, Any]:
        """The overrides of the recipe `fast`. With None, the recipe's number of epochs applies."""
        settings = {
            "model": self.model,
            "model_args": self.model_args,
            "image_size": self.image_size,
            "dataset": dataset,
            **self.other,
        }
        return settings if epochs is None else settings | {"epochs": epochs}


VARIANTS = {
    "VGG": Variant("vgg11", 32, {"batch_norm": True}),
    "Inception": Variant("inceptionv1", 48, {"batch_norm": True}),
    "ResNet": Variant("resnet18", 48),
    "MobileNet": Variant("mobilenet", 64, {"alpha": 0.5}),
    "EfficientNet": Variant("efficientnetb0", 64),
    "attention": Variant("resnet18", 48, {"attention": {3: "se", 4: "non_local"}}),
}
BEST = "best"
LONG = Variant(
    "wideresnet16x4",
    28,
    other={"epochs": 12, "learning_rate": 0.4, "crop": "shift", "random_erasing": 0.25},
)


def run_best(dataset: str, epochs: int | None, out: Path) -> dict[str, Any]:
    """Trains a network for longer on all training images. Returns its row.

    The validation images of `dataset` are the test images. The result is that of the last epoch, so
    the test images do not select an epoch.
    """
    row = _train(LONG.settings(dataset, epochs), out)
    last = training.load_run(out).folder.history()[-1]
    return {"family": BEST, **row, "test_top1": round(last["val_accuracy"], 4)}


def run(family: str, dataset: str, epochs: int | None, out: Path) -> dict[str, Any]:
    """Trains a family's variant. Returns its row.

    Validation images, a tenth of the training images, select the epoch. The test images are used
    once.
    """
    return {"family": family, **_train(VARIANTS[family].settings(dataset, epochs), out)}


def _train(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    metrics = training.train(training.load_recipe("fast", **settings), out, overwrite=True)
    run = training.load_run(out)
    images = metrics["epochs"] * run.steps * run.settings.config.batch_size
    return {
        "network": metrics["model"],
        "epochs": metrics["epochs"],
        "test_top1": round(metrics["test_top1"], 4),
        "minutes": round(metrics["training_seconds"] / 60, 1),
        "images_per_second": round(images / metrics["training_seconds"], 1),
        "parameters": metrics["parameters"],
    }
