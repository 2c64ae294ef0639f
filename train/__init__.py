"""Losses, batches, the loop, checkpoints and mining."""
