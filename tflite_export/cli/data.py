"""The command `data prepare`."""

from typing import Annotated

import typer

from keras_archs.training.data.prepare import prepare

from .command import Command

app = typer.Typer(help="Write a dataset as sharded files (data prepare).", rich_markup_mode=None)


@app.callback()
def _data() -> None:
    """Keeps the name `prepare` in the command. Typer omits the name of a single command."""


@app.command("prepare", cls=Command)
def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="Dataset, as for train --dataset.", metavar="DATASET")
    ],
    out: Annotated[str, typer.Option(help="Folder for the files.", metavar="PATH")],
    format: Annotated[  # noqa: A002  # the option's name
        str, typer.Option(help="tfrecord, or array_record, which allows random access.")
    ] = "tfrecord",
    shards: Annotated[
        int | None, typer.Option(help="Files per split. Default: files of 64 MB to 1 GB.")
    ] = None,
    beam: Annotated[
        bool, typer.Option("--beam", help="Write with Apache Beam (keras-archs[beam]).")
    ] = False,
    beam_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Option of the Beam pipeline, such as runner=FlinkRunner. May be repeated.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Folder of the TFDS datasets.", metavar="PATH")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed that draws the validation and test images.")] = 0,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Skip images that cannot be decoded.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing folder.")
    ] = False,
) -> None:
    """Write a dataset as sharded files and print the option that opens it.

    The encoded images are copied without changes.

    keras-archs data prepare image_folder:photos --out photos.tfrecord
    """
    spec = prepare(
        dataset,
        out,
        format=format,
        shards=shards,
        beam=beam,
        beam_options=[f"--{option}" for option in beam_option or []],
        overwrite=overwrite,
        data_dir=data_dir,
        seed=seed,
        skip_corrupt=skip_corrupt,
    )
    print(f"--dataset '{spec}'")
