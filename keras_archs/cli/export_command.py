"""The command `export`."""

from pathlib import Path
from typing import Annotated

import typer

from .. import exporting, tflite_export
from ..display import byte_size
from ..tflite_export.lowering import MIN_REPRESENTATIVE
from .tables import print_reports


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, .keras file, or NAME:WEIGHTS such as mobilenet:imagenet.",
            metavar="SOURCE",
        ),
    ],
    quantize: Annotated[
        str, typer.Option(help=f"One of {', '.join(tflite_export.KINDS)}.")
    ] = "none",
    out: Annotated[
        Path | None, typer.Option(help="The file. If not given: in RUN/export/.")
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Keep the layers that lose the most in float, as few as the bounds ask for.",
        ),
    ] = False,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="A layer that is not quantized. May be repeated."),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print which layers lose the most.")
    ] = False,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Least share of test images with Keras' class; has defaults by kind."),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(help="Largest error of a score, as a share of their range."),
    ] = None,
    io: Annotated[
        str | None, typer.Option(help="Input and output of int8: int8, uint8 or float32.")
    ] = None,
    scores: Annotated[
        str,
        typer.Option(
            help="What the file gives: model (what the network does), logits or probabilities."
        ),
    ] = "model",
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Let the file take 0..255 and preprocess itself.")
    ] = False,
    any_batch: Annotated[
        bool, typer.Option("--any-batch", help="Take any number of images at once, not one.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="The dataset to calibrate and test on, as for train. A run has its own."),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where TFDS keeps its datasets.", metavar="PATH")
    ] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be decoded.")
    ] = False,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY",
            help="How the images were preprocessed, if SOURCE does not say: as for a family, or"
            " none for pixels of 0..255.",
        ),
    ] = None,
    calibration_size: Annotated[
        int,
        typer.Option(
            "--calibration-size",
            "--samples",
            min=MIN_REPRESENTATIVE,
            help="Training images that calibrate int8, int16x8.",
        ),
    ] = 300,
    calibration_seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of their draw, of all classes alike.")
    ] = 0,
    test_images: Annotated[
        int, typer.Option(min=1, help="Most test images to compare Keras and TFLite on.")
    ] = 2000,
    threads: Annotated[int, typer.Option(help="Threads of the latency measurement.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier file of this kind.")
    ] = False,
) -> None:
    """Write a TFLite file of a network, checked against the network.

    A run's file comes to RUN/export/, beside it its report (JSON) and a page for any browser
    (HTML). A file too far from the Keras model, or with NaN among its scores, ends in exit code 3
    and is kept aside as NAME.rejected.tflite.

    keras-archs export runs/first --quantize int8
    """
    file, made = exporting.export(
        source,
        quantize,
        out=out,
        dataset=dataset,
        data_dir=data_dir,
        skip_corrupt=skip_corrupt,
        preprocessing=preprocessing,
        calibration_size=calibration_size,
        calibration_seed=calibration_seed,
        test_images=test_images,
        overwrite=overwrite,
        debug=debug,
        auto=auto,
        keep_float=keep_float or (),
        min_agreement=min_agreement,
        max_error=max_error,
        io=io,
        scores=scores,
        pixels=pixels,
        batch=None if any_batch else 1,
        threads=threads,
    )
    if made.report:
        print_reports(file.parent, [made.report])
    elif made.stand_in:
        print(
            f"{file}: {byte_size(len(made.content))}. Without --dataset it was tried on"
            f" {made.stand_in.images} generated images: its probabilities deviate from Keras'"
            f" by {100 * made.stand_in.deviation:.2g}%."
        )
    if (page := file.with_suffix(".html")).exists():
        print(f"Page: {page}")
