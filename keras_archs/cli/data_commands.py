"""The commands `data ...`."""

from typing import Annotated

import typer

from ..training.data.prepare import prepare
from .command import Command

app = typer.Typer(help="Write a dataset as sharded files (data prepare).", rich_markup_mode=None)


@app.callback()
def _data() -> None:
    """Keeps `prepare` a command of its own name while it is the only one."""


@app.command("prepare", cls=Command)
def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="The dataset, as for train --dataset.", metavar="DATASET")
    ],
    out: Annotated[str, typer.Option(help="Folder that the files are written to.", metavar="PATH")],
    format: Annotated[  # noqa: A002  # the option's name
        str, typer.Option(help="tfrecord, or array_record, which is read at any place.")
    ] = "tfrecord",
    shards: Annotated[
        int | None, typer.Option(help="Files for each split. If not given: files of 64 MB to 1 GB.")
    ] = None,
    beam: Annotated[
        bool, typer.Option("--beam", help="Let Apache Beam write (keras-archs[beam]).")
    ] = False,
    beam_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of Beam's pipeline, such as runner=FlinkRunner. May be repeated.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where TFDS keeps its datasets.", metavar="PATH")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the draw of the images that are held out.")
    ] = 0,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be decoded.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier folder.")
    ] = False,
) -> None:
    """Write a dataset as sharded files, its image files unchanged, and print how to open it.

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
