"""The command line `keras-archs`."""
