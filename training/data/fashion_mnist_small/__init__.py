"""12,000 images of Fashion-MNIST, shipped with the package for training without a network."""
