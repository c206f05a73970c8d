"""Engines of ignite."""

import pytest

pytest.importorskip("ignite")
pytest.importorskip("tensorboard")

from ours import OURS

from benchmarks.frameworks import in_ignite as script


@pytest.mark.parametrize("subject", OURS[:3], ids=lambda subject: subject.name)
def test_engines_judge_keep_save_resume_and_log_what_is_right(subject, tmp_path):
    assert all(script.run(subject, tmp_path))
