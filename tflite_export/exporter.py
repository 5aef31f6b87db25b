"""Exports a model: writes a checked TFLite file, its report and its page."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from keras_archs import training
from keras_archs.analysis.classifier import image_shape
from keras_archs.display.quiet import quiet
from keras_archs.errors import InputError
from keras_archs.files import atomic_write, check_target, local_path
from keras_archs.preprocessing import PIXELS
from keras_archs.registry import find_family
from keras_archs.training.data.decode.decode import readable
from keras_archs.training.runs.run import open_run
from keras_archs.training.runs.run_folder import RunFolder

from .calibration import calibration_set, evaluation_set
from .conversion import Conversion, check_source, convert_source, needs_representative
from .export_page.page import export_page, is_export_page
from .settings import ExportSettings
from .sources import Source, open_source
from .verification.layer_errors import LayerLoss, check_layers, layer_losses
from .verification.rejection import ParityError


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        path: path of the TFLite file. The folder also has the report NAME.json, if there were test
            images, and the page NAME.html, see `export_page`.
        conversion: the file in memory, with its report.
        layer_losses: cost of the quantization of each layer, the largest first; empty without
            `debug`.
    """

    path: Path
    conversion: Conversion
    layer_losses: Sequence[LayerLoss] = ()


def export(
    source: keras.Model | str | Path | Source,
    quantize: Any = "none",
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Export:
    """Converts a model, compares the file with it, and writes the file, a report and a page.

        export = tflite_export.export("runs/first", "int8")
        print(export.path, export.conversion.report)

    Args:
        source: the folder of a run, a .keras file, NAME:WEIGHTS such as "mobilenet:imagenet", a
            Keras model or a `Source`.
        quantize: kind of the file, one of `KINDS`.
        out: path of the file, ending in .tflite. None writes RUN/export/MODEL_KIND.tflite for a
            run.
        overwrite: whether to replace an earlier file.
        **settings: the other fields of `ExportSettings`. `dataset` names the dataset to calibrate
            and test with. The default is the dataset of the run.

    Raises:
        InputError: an argument is not allowed. It is raised before images are read.
        ParityError: the file is too far from the model, or returns NaN or infinity. The file is
            saved as NAME.rejected.tflite. With `debug` the error has `layer_losses`.
    """
    options = ExportSettings.of({"quantize": quantize, **settings})
    if out is not None:
        out = local_path(out)
        _check_targets(out, overwrite)
    opened_source = _with_preprocessing(source, options)
    check_source(opened_source, options)
    path = out or _path_in_run(opened_source, options.quantize)
    _check_targets(path, overwrite)
    if options.debug:
        check_layers(opened_source.model, options.quantize)
    images = _Images.of(opened_source, options)
    if images.run_or_data is None and (
        options.debug or needs_representative(opened_source, options)
    ):
        need = "debug (--debug)" if options.debug else f"quantize={options.quantize!r}"
        raise InputError(f"{need} needs images. Pass dataset (--dataset).")
    images.read(opened_source, options)
    if images.class_names and not opened_source.class_names:
        opened_source = replace(opened_source, class_names=images.class_names)

    def losses(content: bytes | None, keep_float: Sequence[str]) -> Sequence[LayerLoss]:
        if not options.debug or content is None:
            return ()
        inside = opened_source.preprocessing if options.pixels else None
        return layer_losses(
            opened_source.model,
            replace(options, keep_float=keep_float),
            content,
            images.test,
            inside,
        )

    try:
        # The converter also writes its errors to stderr.
        with quiet() as stderr, contextlib.redirect_stderr(stderr):
            conversion = convert_source(
                opened_source, options, images.representative, images.test, images.labels
            )
    except ParityError as error:
        if rejected := error.keep_aside(path):
            error.add_note(f"  rejected file     {rejected}")
        if error.report:
            error.layer_losses = losses(error.content, error.report.kept_float)
        raise
    _write(path, conversion)
    return Export(path, conversion, losses(conversion.content, conversion.kept_float))


@dataclass
class _Images:
    """The images of an export. `of` finds their source, `read` reads them."""

    run_or_data: "training.Run | training.ImageData | None"
    name: str | None = None
    class_names: tuple[str, ...] | None = None
    representative: Any = None
    test: Any = None
    labels: Any = None

    @classmethod
    def of(cls, source: Source, settings: ExportSettings) -> "_Images":
        if settings.dataset is None and source.folder:
            run = _run(source.folder, settings.skip_corrupt)
            return cls(run, run.settings.config.dataset)
        if settings.dataset is None:
            if settings.skip_corrupt:
                raise InputError(
                    "skip_corrupt (--skip-corrupt) needs dataset (--dataset) or a run."
                )
            return cls(None)
        if source.preprocessing is None:
            raise InputError(
                "preprocessing (--preprocessing) is missing: the source does not define it. Pass"
                " the family that the network was trained with, such as mobilenet, or none for"
                " pixels of 0..255."
            )
        data = training.open_dataset(
            settings.dataset, data_dir=settings.data_dir, skip_corrupt=settings.skip_corrupt
        )
        return cls(data, settings.dataset)

    def read(self, source: Source, settings: ExportSettings) -> None:
        if self.run_or_data is None:
            return
        arguments: dict[str, Any] = {}
        if not isinstance(self.run_or_data, training.Run):
            arguments = {
                "image_shape": image_shape(source.model),
                "preprocessing": source.preprocessing,
            }
        with readable(self.name):
            if needs_representative(source, settings):
                self.representative = calibration_set(
                    self.run_or_data,
                    settings.calibration_size,
                    seed=settings.calibration_seed,
                    **arguments,
                )
            self.test, labels = evaluation_set(self.run_or_data, settings.test_images, **arguments)
        if _same_classes(source, self.run_or_data):
            self.labels = labels
            data = self.run_or_data
            self.class_names = None if isinstance(data, training.Run) else data.class_names


def _with_preprocessing(source: Any, settings: ExportSettings) -> Source:
    """Opens the source and adds the preprocessing of the settings."""
    opened = source if isinstance(source, Source) else open_source(source)
    if (name := settings.preprocessing) is None:
        return opened
    if opened.preprocessing is not None:
        raise InputError(
            f"preprocessing={name!r} (--preprocessing) is not allowed: the preprocessing of"
            f" {str(source)!r} is known. Omit the argument."
        )
    return replace(
        opened, preprocessing=PIXELS if name == "none" else find_family(name).preprocessing
    )


def _path_in_run(source: Source, quantize: str) -> Path:
    if source.folder is None:
        raise InputError("out (--out) is missing. It is optional only if the source is a run.")
    folder = RunFolder(source.folder).exports
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be created: {error.strerror}.") from error
    return folder / f"{source.model.name}_{quantize}.tflite"


def _run(folder: Path, skip_corrupt: bool) -> training.Run:
    """Opens a run with its images. `skip_corrupt` skips images that were damaged after training.

    Skipping images can change the split of a dataset that has no test images of its own. The test
    images may then include training images, and top-1 is too high. The agreement stays valid.
    """
    run_folder = RunFolder(folder)
    settings = run_folder.read_settings()
    if skip_corrupt:
        config = settings.config.model_copy(update={"skip_corrupt": True})
        settings = replace(settings, config=config)
    return open_run(run_folder, settings)


def _same_classes(source: Source, data: training.Run | training.ImageData) -> bool:
    """Returns whether the labels of the dataset are the classes of the network."""
    if isinstance(data, training.Run):
        return True
    if source.class_names:
        return source.class_names == data.class_names
    return len(data.class_names) == max(2, source.model.outputs[0].shape[-1])


def _check_targets(target: Path, overwrite: bool) -> None:
    if target.suffix != ".tflite":
        raise InputError(f"out (--out) must end in .tflite, got {str(target)!r}.")
    for path in map(target.with_suffix, (".json", ".html")):
        if path.is_file() and not _is_exported(path, target.name):
            raise InputError(
                f"out={str(target)!r} (--out): the export would replace {path.name!r} in the same"
                " folder, which is not from an earlier export. Move it, or choose another name."
            )
    for suffix in (target.suffix, ".json", ".html"):
        check_target(target.with_suffix(suffix), overwrite)
    for suffix in (".rejected.tflite", ".rejected.json"):  # see `ParityError.keep_aside`
        check_target(target.with_suffix(suffix), overwrite=True)


def _is_exported(path: Path, name: str) -> bool:
    """Returns whether an export wrote the report or the page at `path` for the file `name`."""
    text = path.read_text("utf-8", errors="replace")
    if path.suffix == ".html":
        return is_export_page(text)
    if path.suffix == ".md":
        return text.startswith(f"# {name}\n")
    try:
        return {"quantize", "size_bytes"} <= set(json.loads(text))
    except (ValueError, TypeError):
        return False


def _write(target: Path, conversion: Conversion) -> None:
    """Writes the file, its report and its page. Removes those of an earlier file."""
    texts = {
        ".json": conversion.report.json() if conversion.report else "",
        ".html": export_page(target.name, conversion),
    }
    path = target
    pages = [".md"] if target.exists() else []  # pages of earlier versions
    try:
        atomic_write(target, conversion.content)
        for path in map(target.with_suffix, [*texts, *pages]):
            if path.is_file() and _is_exported(path, target.name):
                path.unlink()
        for path in map(target.with_suffix, texts):
            if text := texts[path.suffix]:
                atomic_write(path, text.encode())
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
