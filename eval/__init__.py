"""The benchmark harness: workloads, methods, trials, scores, reports. It runs from a checkout."""
