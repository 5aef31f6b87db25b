"""Opens a dataset by the string that names it."""

import difflib
import os
from pathlib import Path

from keras_archs.arguments import called_as
from keras_archs.errors import InputError
from keras_archs.files import local_path

from ..image_data import Announce, ImageData, is_utf8
from .image_folder import open_image_folder
from .tfds import UnknownDatasetError, open_tfds, open_tfds_folder
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
    """Opens the dataset that `spec` names.

    If the dataset has no validation or test split, a tenth of its training images is held out for
    each. The validation split is never the test split.

    Args:
        spec: one of
            - a TFDS name with optional config and version, for example `fashion_mnist_small` or
              `cifar10:3.0.2`. TFDS downloads the dataset if `data_dir` does not have it.
            - `image_folder:PATH`: one folder of image files per class. Class folders may contain
              folders. The class folders are in `PATH`, or in `PATH/train` and, optionally,
              `PATH/validation` (or `val`, `valid`, `dev`) and `PATH/test`. Upper and lower case
              are allowed.
            - `tfrecord:PATTERN`: a glob of files with the features `image/encoded`,
              `image/class/label` and, optionally, `image/class/text`. `{split}` in the pattern
              matches train, validation and test.
            - `tfds_folder:PATH`: the version folder of a prepared TFDS dataset, for example one
              that `data prepare --format array_record` wrote.
            A `~` at the beginning of a path means the home folder.
        data_dir: folder of the TFDS datasets; None: TFDS' default.
        seed: seeds the choice of held-out images of a folder, and their order; 0 to 2**32 - 1.
        skip_corrupt: skip images that do not decode, with a warning, instead of rejecting the
            dataset. TFDS datasets are not checked.
        announce: called with the class names and the image shape, if known, before the images are
            downloaded or read. It can raise an error to stop.

    Raises:
        InputError: the dataset does not exist, cannot be read, or is not an image classification
            dataset.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to {2**32 - 1}, got {seed}.")
    if not is_utf8(spec):
        raise InputError(f"dataset {spec!r} is not UTF-8; rename the folders of its path")
    source, _, place = spec.partition(":")
    # The path can be that of a bucket, for example gs://.
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
        if suggestion := _with_prefix(spec):
            raise InputError(
                f"dataset: {spec!r} is not a TFDS dataset; did you mean {suggestion!r}?"
            ) from error
        raise


def _with_prefix(spec: str) -> str | None:
    """Suggests a dataset argument for a path whose prefix is missing or misspelt."""
    prefix, _, rest = spec.partition(":")
    for place in filter(None, (spec, rest)):
        path = local_path(place)
        if (path / "dataset_info.json").is_file():
            return f"tfds_folder:{place}"
        if path.is_dir():
            return f"image_folder:{place}"
        if path.is_file():
            return f"tfrecord:{place}"
    prefixes = ("image_folder", "tfrecord", "tfds_folder")
    matches = difflib.get_close_matches(prefix.lower(), prefixes, 1)
    return f"{matches[0]}:{rest}" if rest and matches else None
