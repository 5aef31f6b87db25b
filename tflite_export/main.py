"""The command line's door: `predict` without TensorFlow, all else through `keras_archs.cli`."""

import os
import sys


def main() -> None:
    """Runs the command line; bad input ends in one line on stderr and exit code 2."""
    if sys.argv[1:2] == ["predict"]:
        _predict()
    else:
        from keras_archs import cli  # noqa: PLC0415  # imports TensorFlow

        cli.main()


def _predict() -> None:
    from .predict import predict  # noqa: PLC0415  # the other way needs none of it

    try:
        predict(sys.argv[2:])
        sys.stdout.flush()
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever reads, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
