"""What the command `export` does: a file from a run, a .keras file or a name, checked and kept."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from . import tflite_export, training
from .arguments import check_positive_int
from .errors import InputError
from .export_page import export_page, is_export_page
from .files import atomic_write, check_target, local_path
from .quiet import quiet
from .registry import find_family
from .tflite_export.arguments import check_as_trained, check_settings
from .tflite_export.calibration import COUNT, calibration_set, check_draw, evaluation_set
from .tflite_export.conversion import TEST_IMAGES
from .tflite_export.debugging import check_layers
from .tflite_export.fake_quantization.model import is_quantize_aware
from .tflite_export.lowering import CALIBRATED
from .tflite_export.preparing import image_shape
from .tflite_export.quantizing import check_names
from .tflite_export.sources import PIXELS, Source, open_source
from .training.data.encoded import readable
from .training.run import open_run
from .training.run_folder import RunFolder

_SHOWN = 20


def export(
    place: str,
    quantize: Any,
    *,
    out: Path | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    skip_corrupt: bool = False,
    preprocessing: str | None = None,
    calibration_size: int = COUNT,
    calibration_seed: int = 0,
    test_images: int = TEST_IMAGES,
    overwrite: bool = False,
    debug: bool = False,
    pixels: bool = False,
    **settings: Any,
) -> tuple[Path, tflite_export.Conversion]:
    """Writes a checked file, and beside it its report, if there were images to check it on, and a
    page on what it costs and how to call it.

    Args:
        place: a run's folder, a .keras file or NAME:WEIGHTS.
        quantize: kind of the file.
        out: where it comes to; RUN/export/ if None.
        dataset: of training and test images, as for `open_dataset`; that of a run if None.
        data_dir: where TFDS keeps its datasets.
        skip_corrupt: leave images that cannot be decoded out, as a run with that setting does
            anyway.
        preprocessing: family whose preprocessing the network was trained with, or "none" for pixels
            of 0..255; for sources that do not say.
        calibration_size: images that ranges are measured on.
        calibration_seed: draws them.
        test_images: most of them that the file is tested on.
        overwrite: whether an earlier file may be replaced.
        debug: print which layers lose the most, also of a file that is refused.
        pixels: let the file take 0..255 and preprocess itself.
        **settings: of `tflite_export.convert`.

    Returns:
        The path of the file, and what it was made of.

    Raises:
        InputError: an argument is unfit.
        ParityError: the file is too far from the model; it is kept as NAME.rejected.tflite.
    """
    check_settings(quantize, **settings)
    check_draw(calibration_size, calibration_seed, ("calibration_size", "calibration_seed"))
    check_positive_int("test_images", test_images)
    if out is not None:
        out = local_path(out)
        _check_targets(out, overwrite)
    source = _source(place, preprocessing)
    if pixels and source.preprocessing is None:
        raise InputError("--pixels needs --preprocessing: SOURCE does not say what to do inside.")
    check_as_trained(source, quantize, pixels=pixels, **settings)
    check_names(source.model, settings.get("keep_float", ()))
    target = out or _in_run(source, quantize)
    _check_targets(target, overwrite)
    if debug:
        check_layers(source.model, quantize)
    images = _images(source, dataset, data_dir, skip_corrupt)
    needs_ranges = quantize in CALIBRATED and not is_quantize_aware(source.model)
    if images is None and (debug or needs_ranges):
        need = "--debug" if debug else f"--quantize {quantize}"
        raise InputError(f"{need} needs images: give --dataset.")

    given: dict[str, Any] = {}
    if images:
        with readable(dataset or images["source"].settings.config.dataset):
            if needs_ranges:
                given["representative"] = calibration_set(
                    **images, count=calibration_size, seed=calibration_seed
                )
            given["test"], labels = evaluation_set(**images, count=test_images)
        if _same_classes(source, images["source"]):
            given["labels"] = labels
            if not source.class_names:
                source = replace(source, class_names=images["source"].class_names)

    def print_losses(content: bytes, kept: Sequence[str]) -> None:
        if debug:
            told = {
                "keep_float": kept,
                "scores": settings.get("scores", "model"),
                "preprocessing": source.preprocessing if pixels else None,
            }
            _print(tflite_export.debug(source.model, quantize, content, given["test"], **told))

    try:
        # The converter writes what its errors say as well, and more.
        with quiet() as stderr, contextlib.redirect_stderr(stderr):
            made = tflite_export.convert(source, quantize, pixels=pixels, **given, **settings)
    except tflite_export.ParityError as error:
        if kept := error.keep_aside(target):
            error.add_note(f"  kept for a look   {kept}")
        if error.content and error.report:
            print_losses(error.content, error.report.kept_float)
        raise
    _write(target, made)
    print_losses(made.content, made.kept_float)
    return target, made


def _write(target: Path, made: tflite_export.Conversion) -> None:
    """The file, and beside it what is known of it; nothing is left of an earlier one."""
    beside = {
        ".json": made.report.json() if made.report else "",
        ".html": export_page(target.name, made),
    }
    path = target
    pages = [".md"] if target.exists() else []  # which were Markdown once
    try:
        atomic_write(target, made.content)
        for path in map(target.with_suffix, [*beside, *pages]):
            if path.is_file() and _is_of_an_export(path, target.name):
                path.unlink()
        for path in map(target.with_suffix, beside):
            if text := beside[path.suffix]:
                atomic_write(path, text.encode())
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}.") from error


def _check_targets(target: Path, overwrite: bool) -> None:
    if target.suffix != ".tflite":
        raise InputError(f"--out must end in .tflite, got {str(target)!r}.")
    for path in map(target.with_suffix, (".json", ".html")):
        if path.is_file() and not _is_of_an_export(path, target.name):
            raise InputError(
                f"--out={str(target)!r}: {path.name!r} beside it is not of an earlier export."
                " Move it away, or give another name."
            )
    for suffix in (target.suffix, ".json", ".html"):
        check_target(target.with_suffix(suffix), overwrite)
    for suffix in (".rejected.tflite", ".rejected.json"):  # see `ParityError.keep_aside`
        check_target(target.with_suffix(suffix), overwrite=True)


def _is_of_an_export(path: Path, name: str) -> bool:
    text = path.read_text("utf-8", errors="replace")
    if path.suffix == ".html":
        return is_export_page(text)
    if path.suffix == ".md":
        return text.startswith(f"# {name}\n")
    try:
        return {"quantize", "size_bytes"} <= set(json.loads(text))
    except (ValueError, TypeError):
        return False


def _source(place: str, preprocessing: str | None) -> Source:
    source = open_source(place)
    if preprocessing is None:
        return source
    if source.preprocessing is not None:
        raise InputError(f"--preprocessing: that of {place!r} is known; leave it out.")
    expected = PIXELS if preprocessing == "none" else find_family(preprocessing).preprocessing
    return replace(source, preprocessing=expected)


def _in_run(source: Source, quantize: str) -> Path:
    """The file's place in the folder of its run."""
    if source.folder is None:
        raise InputError("--out is missing: a source that is no run has no folder for its files.")
    folder = RunFolder(source.folder).exports
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be made: {error.strerror}.") from error
    return folder / f"{source.model.name}_{quantize}.tflite"


def _images(
    source: Source, dataset: str | None, data_dir: str | Path | None, skip_corrupt: bool
) -> dict[str, Any] | None:
    """What `calibration_set` and `evaluation_set` are to read; None if there is no dataset."""
    if data_dir is not None and dataset is None:
        raise InputError("--data-dir goes with --dataset.")
    if dataset is None and source.folder:
        return {"source": _run(source.folder, skip_corrupt)}
    if dataset is None and skip_corrupt:
        raise InputError("--skip-corrupt goes with --dataset or a run.")
    if dataset is None:
        return None
    if source.preprocessing is None:
        raise InputError(
            "--preprocessing is missing: nothing says how the network's images were preprocessed."
            " Give a family, such as mobilenet, or none for pixels of 0..255."
        )
    return {
        "source": training.open_dataset(dataset, data_dir=data_dir, skip_corrupt=skip_corrupt),
        "image_shape": image_shape(source.model),
        "preprocessing": source.preprocessing,
    }


def _run(folder: Path, skip_corrupt: bool) -> training.Run:
    """A run with its images, without those that were damaged since, if told to leave them out.

    Of a folder without test images others are then held out, some of which were trained on: that
    makes top-1 larger, and leaves the agreement as it is.
    """
    place = RunFolder(folder)
    settings = place.read_settings()
    if skip_corrupt:
        config = settings.config.model_copy(update={"skip_corrupt": True})
        settings = replace(settings, config=config)
    return open_run(place, settings)


def _same_classes(source: Source, data: training.Run | training.ImageData) -> bool:
    """Whether a dataset's labels are those of the network."""
    if isinstance(data, training.Run):
        return True
    if source.class_names:
        return source.class_names == data.class_names
    return len(data.class_names) == max(2, source.model.outputs[0].shape[-1])


def _print(losses: Sequence[tflite_export.LayerLoss]) -> None:
    table = Table(
        Column("layer", overflow="fold"),
        "error alone",
        "agreement alone",
        "signal to noise",
        title=f"The {min(_SHOWN, len(losses))} of {len(losses)} layers that lose the most",
        caption="error and agreement of a file with this layer alone in integers: RMS error as a"
        " share of the scores' range, and same top-1 class as the float file. signal to noise: of"
        " the layer's output in the file itself, after all that the layers before it have lost.",
        caption_justify="left",
    )
    for each in losses[:_SHOWN]:
        table.add_row(
            each.layer,
            f"{each.alone:.3%}",
            f"{each.agreement_alone:.2%}",
            f"{each.noise_db:.1f} dB",
        )
    Console(markup=False, emoji=False, highlight=False).print(table)
