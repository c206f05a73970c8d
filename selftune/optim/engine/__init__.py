"""The code that runs update rules: cohorts, precision, compilation, collectives, checkpoints."""
