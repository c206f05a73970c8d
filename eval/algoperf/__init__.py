"""AlgoPerf, the official benchmark: its rules, logs and scores, and how to run it.

algoperf, JAX and TensorFlow are imported only inside the functions that need them.
"""
