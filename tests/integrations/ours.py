"""Optimizers of selftune that are tried in every framework."""

from benchmarks.frameworks.subjects import Subject

OURS = [
    Subject("selftune", "SelfTune", {}),
    Subject("selftune", "ScheduleFreeAdamW", {"lr": 0.05, "warmup_steps": 8}),
    Subject("selftune", "Prodigy", {"lr": 1.0}),
    Subject("selftune", "ScheduleFreePlus", {"lr": 1.0}),
]
SCHEDULE_FREE = OURS[1]
