import gzip
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import selftune
from selftune.schedules import NormLog


def small_log() -> NormLog:
    generator = np.random.default_rng(0)
    return NormLog(
        steps=np.arange(0, 50, 5),
        norms={"l2": generator.random(10), "weight": generator.random(10)},
        lrs=generator.random(10),
        weight_decay=0.1,
        optimizer="AdamW",
        total_steps=47,
    )


@pytest.mark.parametrize("name", ["norms.csv", "norms.csv.gz"])
def test_a_saved_log_reads_back_exactly(tmp_path, name):
    log = small_log()
    log.norms["l2"][3] = math.nan
    log.save(tmp_path / name)
    read = NormLog.load(tmp_path / name)
    assert np.array_equal(read.steps, log.steps)
    assert read.norms.keys() == log.norms.keys()
    for key, values in log.norms.items():
        assert np.array_equal(read.norms[key], values, equal_nan=True)
    assert read.lrs is not None
    assert log.lrs is not None
    assert np.array_equal(read.lrs, log.lrs)
    assert (read.weight_decay, read.optimizer, read.total_steps) == (0.1, "AdamW", 47)


def test_only_what_is_known_is_saved(tmp_path):
    NormLog(np.arange(3), {"l1": np.ones(3)}).save(tmp_path / "norms.csv")
    read = NormLog.load(tmp_path / "norms.csv")
    assert read.lrs is read.weight_decay is read.optimizer is None
    assert read.total_steps == 3


@pytest.mark.parametrize(
    ("steps", "total"),
    [
        (range(100), 100),
        (range(1, 101), 100),
        (range(0, 1000, 50), 1000),
        (range(50, 1001, 50), 1000),
    ],
)
def test_the_length_of_a_run_is_what_its_records_cover(steps, total):
    assert NormLog(np.array(steps), {"l2": np.ones(len(steps))}).total_steps == total


# -- tables of other programs -----------------------------------------------------------------


def table(tmp_path, text: str):
    path = tmp_path / "norms.csv"
    path.write_text(text)
    return path


def test_usual_names_of_columns_are_understood(tmp_path):
    log = NormLog.load(
        table(tmp_path, "iter,loss,grad_norm,learning_rate\n0,9,1.5,0.1\n1,8,2.5,0.2\n")
    )
    assert log.steps.tolist() == [0, 1]
    assert log.norms["l2"].tolist() == [1.5, 2.5]
    assert log.lrs is not None
    assert log.lrs.tolist() == [0.1, 0.2]


def test_other_names_can_be_said_and_go_before_the_usual(tmp_path):
    path = table(tmp_path, "step,grad_norm,clipped\n0,5,1\n1,5,2\n")
    assert NormLog.load(path).norms["l2"].tolist() == [5, 5]
    assert NormLog.load(path, columns={"clipped": "l2"}).norms["l2"].tolist() == [1, 2]


def test_without_steps_a_row_is_a_step(tmp_path):
    assert NormLog.load(table(tmp_path, "l2\n3\n4\n5\n")).steps.tolist() == [0, 1, 2]


def test_rows_come_in_the_order_of_their_steps_and_the_last_of_a_step_counts(tmp_path):
    rows = "".join(f"{step},{step}\n" for step in range(20))
    log = NormLog.load(table(tmp_path, f"step,l2\n{rows}18,-18\n20,20\n"))
    assert log.steps.tolist() == list(range(21))
    assert log.norms["l2"][18] == -18


def test_rows_without_a_norm_are_no_records_and_a_nan_is_one(tmp_path):
    log = NormLog.load(table(tmp_path, "step,l2\n0,1\n1,\n2,nan\n3,2\n"))
    assert log.steps.tolist() == [0, 2, 3]
    assert np.isnan(log.norms["l2"]).tolist() == [False, True, False]


def test_of_several_norms_an_empty_cell_is_nan(tmp_path):
    log = NormLog.load(table(tmp_path, "step,l2,weight\n0,1,5\n1,2,\n"))
    assert np.isnan(log.norms["weight"]).tolist() == [False, True]


def test_empty_cells_of_the_whole_run_are_unknown(tmp_path):
    log = NormLog.load(table(tmp_path, "l2,weight_decay,optimizer,total_steps\n1,,,\n2,,,\n"))
    assert log.weight_decay is log.optimizer is None
    assert log.total_steps == 2


def test_one_run_is_chosen_from_a_table_of_many(tmp_path):
    path = table(tmp_path, "run,lr,step,l2\na,1e-3,0,1\na,1e-3,1,2\nb,1e-3,0,3\nb,1e-3,1,4\n")
    assert NormLog.load(path, where={"run": "b", "lr": "0.001"}).norms["l2"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no rows"),
        ("step,l2\n", {}, "no rows"),
        ("step,loss\n0,1\n", {}, "no column of gradient norms; it has step, loss"),
        ("step,weight\n0,1\n", {}, "no column of gradient norms"),
        ("step,l2\n0,1\n", {"columns": {"norm": "l2"}}, "no column 'norm'; it has step, l2"),
        ("step,l2\n0,1\n", {"where": {"run": "a"}}, "no column 'run'"),
        ("gn,l2\n0,1\n", {"columns": {"gn": "l_1"}}, "gn cannot be 'l_1': .* one of step, lr"),
        ("run,step,l2\na,0,1\n", {"where": {"run": "b"}}, "no rows where {'run': 'b'}"),
        ("step,l2\n0,1\n0,2\n1,1\n1,2\n", {}, "4 rows for 2 steps: several runs?"),
        ("step,l2\n0,1\n1,high\n", {}, "row 2: l2 is 'high', not a number"),
        ("step,l2\n0,1\n,2\n", {}, "rows without a step"),
        ("l2,weight_decay\n1,no\n", {}, "weight_decay is 'no', not a number"),
        ("l2,total_steps\n1,all\n", {}, "total_steps is 'all', not a number"),
    ],
)
def test_a_table_that_is_no_log_gives_one_clear_error(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        NormLog.load(table(tmp_path, text), **options)


def truncated(data: bytes) -> bytes:
    return gzip.compress(data)[:-20]


def corrupted(data: bytes) -> bytes:
    compressed = bytearray(gzip.compress(data))
    compressed[10] ^= 0xFF
    return bytes(compressed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("norms.csv.gz", truncated(b"step,l2\n" + b"".join(b"%d,1\n" % i for i in range(1000)))),
        ("norms.csv.gz", corrupted(b"step,l2\n0,1\n1,1\n")),
        ("norms.csv", b"step,l2\n0," + b"1" * 200_000),
    ],
    ids=["truncated", "corrupted", "long cell"],
)
def test_a_file_that_cannot_be_read_gives_one_clear_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"norms.csv.* cannot be read as a CSV table: ."):
        NormLog.load(tmp_path / name)


def test_cells_that_a_short_row_lacks_are_empty(tmp_path):
    path = table(tmp_path, "step,l2,run\n0,1,7\n1,2,7\n2,3\n3\n")
    assert NormLog.load(path, where={"run": "7"}).norms["l2"].tolist() == [1, 2]
    assert NormLog.load(path).steps.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norms": {"l2": np.ones(3)}}, "3 values of l2 for 2 steps"),
        ({"lrs": np.ones(1)}, "1 values of lrs for 2 steps"),
        ({"steps": np.array([1, 1])}, "steps must rise"),
        ({"lrs": np.array([0.1, -0.1])}, "lrs must be finite and not negative, got -0.1"),
        ({"lrs": np.array([0.1, math.inf])}, "lrs must be finite and not negative, got inf"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and not negative, got -0.1"),
        ({"weight_decay": math.nan}, "weight_decay must be finite and not negative, got nan"),
        ({"total_steps": 3, "steps": np.array([0, 5])}, "a record of step 5 in 3 steps"),
    ],
)
def test_a_log_that_contradicts_itself_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NormLog(**{"steps": np.arange(2), "norms": {"l2": np.ones(2)}, **options})


def test_a_log_is_written_in_utf_8_in_any_locale(tmp_path):
    code = (
        "import numpy as np; from selftune.schedules import NormLog; "
        "NormLog(np.arange(2), {'l2': np.ones(2)}, optimizer='Gr\\xf6\\xdfe').save('norms.csv')"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {
        **os.environ,
        **ascii_only,
        "PYTHONPATH": str(Path(selftune.__file__).parents[1]),
    }
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
    assert NormLog.load(tmp_path / "norms.csv").optimizer == "Größe"


def test_a_log_without_records_has_parts_without_records():
    empty = NormLog(np.arange(0), {"l2": np.zeros(0)})
    for part in (empty.before(3), empty.after(3), small_log().before(0).before(0)):
        assert (len(part.steps), part.total_steps) == (0, 0)
