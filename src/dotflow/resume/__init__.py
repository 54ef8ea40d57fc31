"""What counts from before: checkpoints, cache and restoring."""
