"""`python -m keras_archs`, the same as the installed command."""

from .tflite_export.main import main

if __name__ == "__main__":
    main()
