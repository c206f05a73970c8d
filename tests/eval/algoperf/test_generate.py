import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eval import baselines
from eval.algoperf.generate import Entry, generate, main
from eval.methods import METHODS
from eval.user_methods import own_method

HERE = Path(__file__).parent
HOME = Path(os.environ.get("ALGOPERF_HOME", "/nowhere"))
RECORDED = {name: METHODS[name] for name in sorted({r["method"] for r in baselines.read()})}
CHECKERS = ("algorithms/submission_checker.py", "submissions/submission_checker.py")
OWN = """
from selftune.optim import Prodigy

def mine(model, num_steps):
    return Prodigy(model.parameters(), lr=0.5), None, None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The submissions of the recorded methods and of one that is the user's own."""
    out = tmp_path_factory.mktemp("generated") / "submissions"
    own = out.parent / "own.py"
    own.write_text(OWN)
    for method in RECORDED.values():
        generate(method, out)
    generate(own_method(f"{own}:mine"), out)
    return out


def info(path):
    lines = (path / "submission_info.yml").read_text().splitlines()
    return {name: json.loads(value) for name, _, value in (line.partition(": ") for line in lines)}


def test_every_submission_trains_with_nothing_but_what_it_carries(folder):
    done = subprocess.run(
        [sys.executable, "-P", HERE / "submissions_at_work.py", folder],
        env=os.environ | {"PYTHONPATH": str(HERE)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *names, library, repository_seen = done.stdout.split()
    assert set(names) == {*RECORDED, "mine"}
    assert Path(library).is_relative_to(folder)
    assert repository_seen == "False"


def test_a_submission_says_what_it_is(folder):
    for name, method in RECORDED.items():
        about = info(folder / "self_tuning" / name)
        assert about["submission_folder"] == f"submissions/self_tuning/{name}"
        assert (about["ruleset"], about["framework"]) == ("self-tuning", "PyTorch")
        assert method.summary in about["description"]


def test_every_method_can_be_generated(tmp_path, monkeypatch):
    # Without its copies of the library and of the methods, of which one is in `folder`.
    monkeypatch.setattr(
        "shutil.copytree", lambda source, target, **_: Path(target).mkdir(parents=True)
    )
    for name, method in METHODS.items():
        written = generate(method, tmp_path)
        assert f'METHODS["{name}"].build' in (written / "submission.py").read_text()
        assert info(written)["submission_name"] == name


def test_it_carries_the_licence_and_requires_no_torch_of_its_own(folder):
    path = folder / "self_tuning" / "prodigy"
    assert "Apache License" in (path / "LICENSE").read_text()
    assert (path / "requirements.txt").read_text().split() == ["numpy", "scipy"]


def test_authors_and_regularizers_go_where_they_belong(tmp_path):
    entry = Entry('A. "Ada" Author', "Somewhere", dropout_rate=0.1, label_smoothing=0.2)
    path = generate(METHODS["nadamw"], tmp_path, entry)
    assert info(path)["authors"] == 'A. "Ada" Author'
    assert "dropout_rate=0.1, label_smoothing=0.2)" in (path / "submission.py").read_text()


def test_writing_the_same_again_changes_nothing(tmp_path):
    path = generate(METHODS["nadamw"], tmp_path)
    (path / "__pycache__").mkdir()
    (path / "__pycache__" / "left.pyc").touch()
    inode = path.stat().st_ino
    assert generate(METHODS["nadamw"], tmp_path) == path
    assert path.stat().st_ino == inode
    assert [child.name for child in path.parent.iterdir()] == ["nadamw"]


def test_another_submission_in_the_place_is_not_overwritten(tmp_path):
    generate(METHODS["nadamw"], tmp_path)
    with pytest.raises(ValueError, match="holds another submission; remove it or choose"):
        generate(METHODS["nadamw"], tmp_path, Entry(label_smoothing=0.1))


def test_the_command_prints_the_folders_and_refuses_in_one_line(tmp_path, capsys):
    assert main(["--method", "adamw,prodigy", "--out", str(tmp_path)]) == 0
    paths = capsys.readouterr().out.split()
    assert [Path(path).name for path in paths] == ["adamw", "prodigy"]
    with pytest.raises(SystemExit) as ended:
        main(["--label-smoothing", "1.5", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "a number from 0, below 1, got '1.5'" in capsys.readouterr().err


@pytest.mark.skipif(
    not any((HOME / checker).is_file() for checker in CHECKERS),
    reason="needs a checkout of mlcommons/algorithmic-efficiency, named by ALGOPERF_HOME",
)
def test_the_official_checker_passes_all_of_them(folder, tmp_path):
    checker = next(HOME / path for path in CHECKERS if (HOME / path).is_file())
    done = subprocess.run(
        [sys.executable, checker, folder], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "ALL CHECKS PASSED" in done.stderr
