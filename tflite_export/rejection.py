"""The errors for files that are not let through."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_archs.files import local_path, write_target

if TYPE_CHECKING:
    from .report import Report


class ParityError(Exception):
    """A file that is not let through.

    Attributes:
        content: the bytes of the file; None if its Keras model is to blame.
        report: its report; None if there were no test images, or no scores to compare.
    """

    exit_code = 3  # see `command_line.finish`

    def __init__(
        self,
        message: str,
        content: bytes | None = None,
        report: "Report | None" = None,
    ) -> None:
        super().__init__(message)
        self.content, self.report = content, report

    def keep_aside(self, target: str | Path) -> Path | None:
        """Writes the file and its report for a look, and returns the file's path, if there is one.

        Args:
            target: the path that the file was meant for, such as model.tflite; it is not touched.
                The file comes to model.rejected.tflite, the report to model.rejected.json.

        Raises:
            InputError: the folder is missing or cannot be written to.
        """
        if self.content is None:
            return None
        path = local_path(target).with_suffix(".rejected.tflite")
        write_target(path, self.content, overwrite=True)
        if self.report:
            self.report.save_json(path.with_suffix(".json"))
        else:  # an earlier one would be of another file
            path.with_suffix(".json").unlink(missing_ok=True)
        return path


class NotFiniteError(ParityError):
    """NaN or infinity among the scores of a Keras model or of its file: nothing compares to them.

    The message is one line.
    """
