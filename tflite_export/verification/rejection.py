"""The errors for rejected files."""

from pathlib import Path
from typing import Any

from keras_archs.files import local_path, write_target


class ParityError(Exception):
    """A file was rejected because it is too far from its Keras model.

    Attributes:
        content: the bytes of the file; None if the Keras model is the cause.
        report: the `Report` of the file; None without test images or without finite scores.
        layer_losses: cost of the quantization of each layer, after an export with `debug`; else
            empty.
    """

    exit_code = 3  # see `command_line.finish`

    def __init__(
        self,
        message: str,
        content: bytes | None = None,
        report: Any = None,
    ) -> None:
        super().__init__(message)
        self.content, self.report = content, report
        self.layer_losses: Any = ()

    def keep_aside(self, target: str | Path) -> Path | None:
        """Saves the rejected file and its report for inspection.

        Args:
            target: the intended path of the file, such as model.tflite. Nothing is written to it.
                The file is written to model.rejected.tflite, the report to model.rejected.json.

        Returns:
            The path of the rejected file, or None if `content` is None.

        Raises:
            InputError: the folder is missing or cannot be written to.
        """
        if self.content is None:
            return None
        path = local_path(target).with_suffix(".rejected.tflite")
        write_target(path, self.content, overwrite=True)
        if self.report:
            self.report.save_json(path.with_suffix(".json"))
        else:  # an earlier report belongs to another file
            path.with_suffix(".json").unlink(missing_ok=True)
        return path


class NotFiniteError(ParityError):
    """A Keras model or its file returned NaN or infinity. The message is one line."""
