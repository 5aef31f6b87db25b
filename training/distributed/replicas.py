"""Synchronises gradients and moving statistics of a model's replicas."""

from typing import Any

import keras
import tensorflow as tf

from keras_archs.graph import inner_layers


def all_reduce(operation: str, values: list[Any]) -> list[Any]:
    """Returns the `"SUM"` or `"MEAN"` of each tensor over the replicas. Called in a replica."""
    # TensorFlow needs the device of a value, which the value of a variable does not have.
    values = [tf.identity(value) for value in values]
    return tf.distribute.get_replica_context().all_reduce(operation, values) if values else values


def moving_statistics(model: keras.Model) -> list[tf.Variable]:
    """The moving statistics of all trainable batch norms.

    In Keras, each replica updates its own copy. Averaging the copies after each step has the same
    result as an update with the average statistics of all replicas.
    """
    layers = [inner for layer in model.layers for inner in (layer, *inner_layers(layer))]
    return [
        variable.value
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for variable in layer.non_trainable_variables
    ]


def sum_gradients_first(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer sum gradients over the replicas before all other operations on them.

    Keras sums gradients after clipping, and after the loss scaling has checked for infinities. An
    infinity in one replica would reach the weights of all replicas, and their loss scales would
    differ.
    """
    apply = optimizer.apply

    def apply_sum(grads: Any, trainable_variables: Any = None) -> None:
        sums = iter(all_reduce("SUM", [grad for grad in grads if grad is not None]))
        apply([None if grad is None else next(sums) for grad in grads], trainable_variables)

    optimizer.apply = apply_sum
    # Private: Keras has no public way to turn off its own sum of gradients.
    for inner in _with_inner(optimizer):
        inner._all_reduce_sum_gradients = list
        if inner.gradient_accumulation_steps:
            _accumulate_together(inner)


def _accumulate_together(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes all replicas decide together whether to accumulate gradients or take a step.

    In Keras, each replica decides in a branch of the graph, in which TensorFlow does not allow it
    to wait for the other replicas.
    """
    batches = optimizer.gradient_accumulation_steps

    def apply(grads: list[Any], variables: list[Any]) -> None:
        sums = [
            optimizer._accumulated_gradients[optimizer._get_variable_index(variable)]
            for variable in variables
        ]

        def accumulate_or_step(strategy: tf.distribute.Strategy, *grads: Any) -> None:
            def take_step() -> None:
                def in_replica(*grads: Any) -> None:
                    pairs = zip(grads, sums, strict=True)
                    means = [(gradient + total) / batches for gradient, total in pairs]
                    clipped = optimizer._clip_gradients(means)
                    optimizer._backend_update_step(clipped, variables, optimizer.learning_rate)

                strategy.extended.call_for_each_replica(in_replica, args=grads)
                for total in sums:
                    strategy.extended.update(total.value, lambda x: x.assign(tf.zeros_like(x)))

            def accumulate() -> None:
                for total, grad in zip(sums, grads, strict=True):
                    strategy.extended.update(
                        total.value, lambda x, gradient: x.assign_add(gradient), (grad,)
                    )

            tf.cond((optimizer._iterations + 1) % batches == 0, take_step, accumulate)

        tf.distribute.get_replica_context().merge_call(accumulate_or_step, args=grads)

    # Private, like the functions above: Keras has no public way to change this decision.
    optimizer._backend_apply_gradients = apply


def _with_inner(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer and the optimizers that it wraps."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer, *_with_inner(optimizer.inner_optimizer)]
    return [optimizer, *getattr(optimizer, "optimizers", [])]
