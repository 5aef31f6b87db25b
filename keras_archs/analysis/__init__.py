"""Analysis of a finished model: feature maps, cost, image shape, what the model attends to."""
