"""What the replicas of a model have in common: gradients and moving statistics."""

from typing import Any

import keras
import tensorflow as tf

from keras_archs.graph import inner_layers


def all_reduce(how: str, values: list[Any]) -> list[Any]:
    """`"SUM"` or `"MEAN"` of each tensor over the replicas; for use in one."""
    # A variable's value has no device of its own, which TensorFlow looks for.
    values = [tf.identity(value) for value in values]
    return tf.distribute.get_replica_context().all_reduce(how, values) if values else values


def moving_statistics(model: keras.Model) -> list[tf.Variable]:
    """The moving statistics of all batch norms that learn.

    Keras lets each replica move its own. Averaging them after each step is what moving them by the
    replicas' average statistics would be.
    """
    layers = [each for layer in model.layers for each in (layer, *inner_layers(layer))]
    return [
        variable.value
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for variable in layer.non_trainable_variables
    ]


def sum_gradients_first(optimizer: keras.optimizers.Optimizer) -> None:
    """Sums gradients over the replicas in front of all else that an optimizer does with them.

    Keras does so behind clipping, and behind the loss scale's search for infinities: an infinity
    in one replica would go to the weights of all, and scales would part.
    """
    apply = optimizer.apply

    def apply_sum(grads: Any, trainable_variables: Any = None) -> None:
        there = [grad is not None for grad in grads]
        sums = iter(all_reduce("SUM", [grad for grad in grads if grad is not None]))
        apply([next(sums) if each else None for each in there], trainable_variables)

    optimizer.apply = apply_sum
    # Private: Keras has no public way to say that gradients are summed.
    for each in _with_inner(optimizer):
        each._all_reduce_sum_gradients = list
        if each.gradient_accumulation_steps:
            _accumulate_together(each)


def _accumulate_together(optimizer: keras.optimizers.Optimizer) -> None:
    """Lets all replicas decide at once whether gradients are added up or make a step.

    Keras lets each decide for itself, in a branch of the graph where TensorFlow lets none of them
    wait for the others.
    """
    batches = optimizer.gradient_accumulation_steps

    def apply(grads: list[Any], variables: list[Any]) -> None:
        sums = [
            optimizer._accumulated_gradients[optimizer._get_variable_index(variable)]
            for variable in variables
        ]

        def together(strategy: tf.distribute.Strategy, *grads: Any) -> None:
            def take_step() -> None:
                def in_replica(*grads: Any) -> None:
                    totals = zip(grads, sums, strict=True)
                    means = [(new + before) / batches for new, before in totals]
                    clipped = optimizer._clip_gradients(means)
                    optimizer._backend_update_step(clipped, variables, optimizer.learning_rate)

                strategy.extended.call_for_each_replica(in_replica, args=grads)
                for each in sums:
                    strategy.extended.update(each.value, lambda x: x.assign(tf.zeros_like(x)))

            def add() -> None:
                for each, grad in zip(sums, grads, strict=True):
                    strategy.extended.update(each.value, lambda x, new: x.assign_add(new), (grad,))

            tf.cond((optimizer._iterations + 1) % batches == 0, take_step, add)

        tf.distribute.get_replica_context().merge_call(together, args=grads)

    # Private, as what it is made of: Keras has no public way into the decision.
    optimizer._backend_apply_gradients = apply


def _with_inner(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer and those that it hands its work to."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer, *_with_inner(optimizer.inner_optimizer)]
    return [optimizer, *getattr(optimizer, "optimizers", [])]
