"""Fashion-MNIST, the standing benchmark of training: `make bench-fashion`."""
