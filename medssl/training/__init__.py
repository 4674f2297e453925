"""The Ignite engine: batches, the step, precision, checkpoints, TensorBoard."""
