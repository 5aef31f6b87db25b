"""A small network of each family, trained on Fashion-MNIST by the same recipe."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import training


@dataclass(frozen=True)
class Variant:
    """A network, the size of its images and what else is not the recipe's."""

    model: str
    image_size: int
    model_args: dict[str, Any] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)

    def settings(self, dataset: str, epochs: int | None) -> dict[str, Any]:
        """What a run of the recipe `fast` is told; None leaves it its own number of epochs."""
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


def run_best(whole: str, epochs: int | None, out: Path) -> dict[str, Any]:
    """Trains a network at length on all training images; the row of it.

    The validation images of `whole` are the test images. The last epoch counts, whatever the
    others reached, so that nothing is selected by them.
    """
    row = _train(LONG.settings(whole, epochs), out)
    last = training.load_run(out).folder.history()[-1]
    return {"family": BEST, **row, "test_top1": round(last["val_accuracy"], 4)}


def run(family: str, dataset: str, epochs: int | None, out: Path) -> dict[str, Any]:
    """Trains a family's variant; the row of it.

    The epoch is chosen by validation images, a tenth of the training images; the test images are
    looked at once.
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
