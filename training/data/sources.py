"""`open_dataset`: from the one string that names a dataset to its `ImageData`."""

import difflib
import os
from pathlib import Path

from keras_archs.errors import InputError
from keras_archs.files import local_path

from ..calling import called_as
from .image_data import Announce, ImageData, is_utf8
from .image_folder import open_image_folder
from .tfds_source import UnknownDatasetError, open_tfds, open_tfds_folder
from .tfrecord import open_tfrecord


@called_as("training.open_dataset('image_folder:photos')")
def open_dataset(
    spec: str,
    *,
    data_dir: Path | str | None = None,
    seed: int = 0,
    skip_corrupt: bool = False,
    announce: Announce = lambda *_: None,
) -> ImageData:
    """Open the dataset that `spec` names.

    Validation and test images that the dataset does not have are held out of its training
    images, a tenth each; validation is never the test split.

    Args:
        spec: one of
            - a TFDS name with optional config and version, such as `fashion_mnist_small` or
              `cifar10:3.0.2`; TFDS downloads it if `data_dir` does not have it;
            - `image_folder:PATH`, a folder of image files for each class, with folders in it or
              without, or such folders below `PATH/train` and, optionally, `PATH/validation` (or
              `val`, `valid`, `dev`) and `PATH/test`, in capitals or not;
            - `tfrecord:PATTERN`, a glob of files with the features `image/encoded`,
              `image/class/label` and, optionally, `image/class/text`; `{split}` in it stands for
              train, validation and test;
            - `tfds_folder:PATH`, a folder of a version that TFDS has prepared, such as
              `data prepare --format array_record` writes.
            A `~` at the beginning of a path is the home folder.
        data_dir: where TFDS keeps its datasets; None is TFDS' own default.
        seed: draws which images of a folder are held out, and their order; 0 to 2**32 - 1.
        skip_corrupt: leave images that do not decode out, with a warning, instead of refusing
            the dataset. TFDS datasets are taken as they are.
        announce: called with the class names and the image shape, as far as they are known, before
            the images are downloaded or read. An error that it raises ends the opening.

    Raises:
        InputError: the dataset does not exist, cannot be read or is no classification of images.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed: {seed} given; allowed is 0 to {2**32 - 1}")
    if not is_utf8(spec):
        raise InputError(f"dataset {spec!r} is not UTF-8; rename the folders of its path")
    source, _, place = spec.partition(":")
    # Paths of buckets, such as gs://, come here as well.
    place = os.path.expanduser(place)  # noqa: PTH111
    data_dir = data_dir and os.path.expanduser(data_dir)  # noqa: PTH111
    if source == "image_folder":
        try:
            return open_image_folder(
                Path(place), name=spec, seed=seed, skip_corrupt=skip_corrupt, announce=announce
            )
        except OSError as error:
            raise InputError(f"dataset {spec!r} cannot be read: {error}") from error
    if source == "tfrecord":
        return open_tfrecord(place, name=spec, skip_corrupt=skip_corrupt, announce=announce)
    if source == "tfds_folder":
        return open_tfds_folder(place, name=spec, announce=announce)
    try:
        return open_tfds(spec, data_dir=data_dir, announce=announce)
    except UnknownDatasetError as error:
        if meant := _with_prefix(spec):
            raise InputError(
                f"dataset: {spec!r} is not a TFDS dataset; did you mean {meant!r}?"
            ) from error
        raise


def _with_prefix(spec: str) -> str | None:
    """What is probably meant by the path of data without its prefix, or with a misspelt one."""
    prefix, _, rest = spec.partition(":")
    for place in filter(None, (spec, rest)):
        path = local_path(place)
        if (path / "dataset_info.json").is_file():
            return f"tfds_folder:{place}"
        if path.is_dir():
            return f"image_folder:{place}"
        if path.is_file():
            return f"tfrecord:{place}"
    near = difflib.get_close_matches(prefix.lower(), ("image_folder", "tfrecord", "tfds_folder"), 1)
    return f"{near[0]}:{rest}" if rest and near else None
