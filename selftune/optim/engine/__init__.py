"""Machinery that runs update rules: grouping, precision, compilation, collectives, checkpoints."""
