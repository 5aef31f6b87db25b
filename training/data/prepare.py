"""Writes any dataset as shards that are fast to read (`keras-archs data prepare`)."""

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_archs.errors import InputError
from keras_archs.files import local_path, require_local

from .decode.decode import readable, reason
from .image_data import SPLITS, ImageData
from .readers.open_dataset import open_dataset

Format = Literal["tfrecord", "array_record"]

_NAME, _VERSION = "images", "1.0.0"
_INFO = "dataset_info.json"
"""File that TFDS writes next to its shards."""
_PARTS = 32
"""Parts of a split that Beam distributes to its workers. Each part reads all record files once."""


def prepare(
    dataset: str,
    out: str | Path,
    *,
    format: Format = "tfrecord",  # noqa: A002  # the option's name
    shards: int | None = None,
    beam: bool = False,
    beam_options: Sequence[str] = (),
    overwrite: bool = False,
    data_dir: str | Path | None = None,
    seed: int = 0,
    skip_corrupt: bool = False,
) -> str:
    """Writes a dataset's three splits to the folder `out`. The image files are not changed.

    Order, splits and classes stay the same. `tfrecord` files have the features of TensorFlow's
    ImageNet scripts: `image/encoded`, `image/class/label`, `image/class/text` and
    `image/channels`. `array_record` files have those of TFDS' image datasets: `image` and `label`.

    Args:
        dataset: as in `open_dataset`, together with `data_dir`, `seed` and `skip_corrupt`.
        out: a new folder. It appears only when it is complete.
        format: of the files. ArrayRecord files allow random access.
        shards: number of files per split. If None, TFDS chooses files of 64 MB to 1 GB.
        beam: write with Apache Beam, on all machines of its runner. Each worker opens the
            dataset, so each worker must be able to read it.
        beam_options: options of Beam's pipeline, for example `--runner=FlinkRunner`.
        overwrite: whether to replace an existing `out`.

    Returns:
        the dataset argument that opens the files with `open_dataset`.

    Raises:
        InputError: the dataset cannot be opened, or a split has fewer images than `shards`; `out`
            exists, cannot be written or is not a local folder; Beam is not installed; or an image
            can no longer be read.
    """
    require_local(out, "out")
    out = local_path(out)
    if out.exists() and not overwrite:
        raise InputError(
            f"out={str(out)!r} exists; give overwrite=True (--overwrite) to replace the folder."
        )
    if out.exists() and not (out / _INFO).is_file():
        raise InputError(
            f"out={str(out)!r} does not contain prepared files ({_INFO} is missing), so overwrite"
            " does not replace it; give another folder."
        )
    if format not in get_args(Format):
        raise InputError(f"format must be one of {', '.join(get_args(Format))}, got {format!r}.")
    if shards is not None and shards < 1:
        raise InputError(f"shards must be at least 1, got {shards}.")
    if beam_options and not beam:
        raise InputError("beam_options need beam=True (--beam).")
    if beam and not find_spec("apache_beam"):
        raise InputError("beam=True needs Apache Beam: pip install 'keras-archs[beam]'")
    source = {"data_dir": data_dir, "seed": seed, "skip_corrupt": skip_corrupt}
    reader = functools.partial(_read_part, dataset, tuple(source.items()), format)
    download = tfds.download.DownloadConfig(
        num_shards=shards, beam_options=_pipeline_options(beam_options) if beam else None
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as part:
            data = open_dataset(dataset, **source)  # type: ignore[arg-type]
            smallest = min(SPLITS, key=lambda split: len(data.splits[split]))
            if (shards or 1) > (count := len(data.splits[smallest])):
                raise InputError(
                    f"shards must be from 1 to {count}, the number of images in the {smallest}"
                    f" split, got {shards}."
                )
            builder = _Builder(data, format, reader if beam else None, data_dir=part)
            with readable(dataset):
                builder.download_and_prepare(download_config=download)
            if out.exists():
                out.rename(Path(part) / "replaced")
            Path(builder.data_dir).rename(out)
    except OSError as error:
        raise InputError(f"out={str(out)!r} cannot be written to: {error}.") from error
    except tf.errors.OpError as error:
        raise InputError(f"out={str(out)!r} cannot be written to: {reason(error)}.") from error
    if format == "tfrecord":
        return f"tfrecord:{out}/{_NAME}-{{split}}.tfrecord-*"
    return f"tfds_folder:{out}"


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes an open dataset, or the dataset that `reader` opens in each Beam worker."""

    VERSION = tfds.core.Version(_VERSION)
    name = _NAME

    def __init__(self, data: ImageData, file_format: Format, reader: Any, **rest: Any) -> None:
        self._data, self._format, self._reader = data, file_format, reader
        super().__init__(file_format=file_format, **rest)

    def _info(self) -> tfds.core.DatasetInfo:
        channels, names = self._data.image_shape[-1], list(self._data.class_names)
        image = tfds.features.Image(shape=(None, None, channels))
        label = tfds.features.ClassLabel(names=names)
        features: dict[str, Any] = {"image": image, "label": label}
        if self._format == "tfrecord":
            class_features = {"label": label, "text": tfds.features.Text()}
            features = {"image": {"encoded": image, "channels": tf.int64, "class": class_features}}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Prepared from {self._data.name}.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label") if self._format == "array_record" else None,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Any:
        if self._reader is None:
            return _examples(self._data, split, self._format)
        import apache_beam as beam  # noqa: PLC0415  # optional dependency

        parts = beam.Create(range(_PARTS))
        return parts | beam.Reshuffle() | beam.FlatMap(functools.partial(self._reader, split))


def _examples(
    data: ImageData, split: str, file_format: Format, part: int = 0, parts: int = 1
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields every `parts`th example of a split with its number, starting at number `part`."""
    examples = data.splits[split]
    stored = examples.encoded.shard(parts, part).map(examples.content, tf.data.AUTOTUNE)
    for place, (content, label) in enumerate(stored.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()):
        example: dict[str, Any] = {"image": content, "label": int(label)}
        if file_format == "tfrecord":
            features = {"label": int(label), "text": data.class_names[label]}
            channels = data.image_shape[-1]
            example = {"image": {"encoded": content, "channels": channels, "class": features}}
        yield part + place * parts, example


_open = functools.cache(lambda dataset, source: open_dataset(dataset, **dict(source)))


def _read_part(
    dataset: str, source: tuple[tuple[str, Any], ...], file_format: Format, split: str, part: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    return _examples(_open(dataset, source), split, file_format, part, _PARTS)


def _pipeline_options(options: Sequence[str]) -> Any:
    # An optional dependency.
    from apache_beam.options.pipeline_options import PipelineOptions  # noqa: PLC0415

    return PipelineOptions(list(options))
