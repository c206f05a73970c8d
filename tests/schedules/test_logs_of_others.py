"""Logs as other programs write them: what each form is read as, and what is said of it."""

import bz2
import gzip
import json
import lzma
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

from selftune.refinement.log_steps import first_and_total
from selftune.schedules import NormLog, refine
from selftune.schedules.__main__ import main

STEPS = list(range(0, 1000, 10))
NORMS = [2.0 - step / 1000 for step in STEPS]
LRS = [1e-3 * (1 - step / 1000) for step in STEPS]


def written(tmp_path, text: str | bytes, name: str = "log.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def csv(header: str, *columns, delimiter: str = ",") -> str:
    rows = (delimiter.join(map(str, row)) for row in zip(*columns, strict=True))
    return "\n".join([header, *rows]) + "\n"


def check(log: NormLog, total: int = 1000) -> None:
    assert log.steps.tolist() == STEPS
    assert log.norms["l2"].tolist() == NORMS
    assert log.total_steps == total


PLAIN = csv("step,grad_norm,lr", STEPS, NORMS, LRS)
RECORDS = [
    {"step": s, "grad_norm": n, "lr": lr} for s, n, lr in zip(STEPS, NORMS, LRS, strict=True)
]


# -- forms of files ---------------------------------------------------------------------------

GERMAN = csv(
    "step;grad_norm;lr",
    STEPS,
    [str(n).replace(".", ",") for n in NORMS],
    [f"{lr:.9f}".replace(".", ",") for lr in LRS],
)
COLUMNS = {"step": STEPS, "grad_norm": NORMS, "lr": LRS}
INDEXED = {name: dict(zip(map(str, STEPS), v, strict=True)) for name, v in COLUMNS.items()}
FORMS = {
    "commas": PLAIN,
    "tabs": PLAIN.replace(",", "\t"),
    "semicolons": PLAIN.replace(",", ";"),
    "bars": PLAIN.replace(",", "|"),
    "markdown": csv("step|grad_norm|lr\n---:|:---:|---", STEPS, NORMS, LRS, delimiter=" | "),
    "database": csv(
        " step | grad_norm |  lr\n------+-----------+----", STEPS, NORMS, LRS, delimiter=" | "
    ),
    "blanks": PLAIN.replace(",", "   "),
    "decimal commas": csv(
        "step;grad_norm;lr",
        STEPS,
        [str(n).replace(".", ",") for n in NORMS],
        [repr(lr).replace(".", ",") for lr in LRS],
        delimiter=";",
    ),
    "windows": PLAIN.replace("\n", "\r\n"),
    "byte-order mark": "\ufeff" + PLAIN,
    "utf-16": PLAIN.encode("utf-16"),
    "quotes": csv('"Step","Grad_Norm","LR"', *([f'"{x}"' for x in c] for c in (STEPS, NORMS, LRS))),
    "excel": "sep=;\n" + PLAIN.replace(",", ";"),
    "comments": "# made by hand\n" + PLAIN,
    "commented header": "# " + PLAIN.replace(",", " "),
    "header twice": PLAIN + PLAIN[: PLAIN.index("\n") + 1],
    "decimal commas in quotes": csv(
        "step,grad_norm,lr",
        STEPS,
        *([f'"{x!r}"'.replace(".", ",") for x in c] for c in (NORMS, LRS)),
    ),
    "utf-16 without a mark": PLAIN.encode("utf-16-le"),
    "latin-1": PLAIN.replace("lr", "lr,größe", 1).encode("latin-1"),
    "title": "My run: AdamW\n\n" + PLAIN,
    "another program's comment": "% made by hand\n" + PLAIN,
    "empty columns": PLAIN.replace("\n", ",,\n"),
    "bars in a name": PLAIN.replace("lr", "lr,|d|,||d||", 1),
    "header of other columns": csv("step,grad_norm,lr", STEPS[:60], NORMS[:60], LRS[:60])
    + csv("loss,lr,step,grad_norm", NORMS[60:], LRS[60:], STEPS[60:], NORMS[60:]),
    "gzip": gzip.compress(PLAIN.encode()),
    "bzip2": bz2.compress(PLAIN.encode()),
    "xz": lzma.compress(PLAIN.encode()),
    "list of records": json.dumps(RECORDS),
    "records a line": "\n".join(map(json.dumps, RECORDS)),
    "records a line, with commas": ",\n".join(map(json.dumps, RECORDS)) + ",\n",
    "comma after the last record": "[\n" + ",\n".join(map(json.dumps, RECORDS)) + ",\n]\n",
    "records over lines": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "records side by side": "".join(map(json.dumps, RECORDS)),
    "cut last line": "\n".join(map(json.dumps, RECORDS)) + '\n{"step": 1000, "gr',
    "nested records": json.dumps([{"step": r["step"], "train": r} for r in RECORDS]),
    "lists": json.dumps(COLUMNS),
    "pandas": json.dumps(INDEXED),
    "pandas split": json.dumps(
        {"columns": list(COLUMNS), "data": [list(r.values()) for r in RECORDS]}
    ),
    "records by step": json.dumps({str(r.pop("step")): r for r in map(dict, RECORDS)}),
    "records by row": json.dumps({str(i): r for i, r in enumerate(RECORDS)}),
    "sacred": json.dumps({n: {"steps": STEPS, "values": COLUMNS[n]} for n in ("grad_norm", "lr")}),
    "pairs": json.dumps(
        {n: list(zip(STEPS, COLUMNS[n], strict=True)) for n in ("grad_norm", "lr")}
    ),
    "points": json.dumps(
        {
            n: [{"step": s, "value": x} for s, x in zip(STEPS, COLUMNS[n], strict=True)]
            for n in ("grad_norm", "lr")
        }
    ),
    "trainer state": json.dumps({"epoch": 1, "log_history": RECORDS}, indent=1),
    "tensors": csv("step,grad_norm,lr", STEPS, [f'"tensor({n}, device=0)"' for n in NORMS], LRS),
    "thousands": PLAIN.replace("990,", '"0,990",').replace('"0,990"', "990"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_log_reads_the_same_in_every_form(tmp_path, form):
    log = NormLog.load(written(tmp_path, FORMS[form]))
    check(log)
    assert log.lrs is not None
    assert log.lrs == pytest.approx(LRS, rel=1e-12)


def test_thousands_are_parted_by_commas_or_points(tmp_path):
    text = 'step,l2\n"1,000",1.5\n"2,000",2.5\n'
    assert NormLog.load(written(tmp_path, text)).steps.tolist() == [1000, 2000]
    text = "step;l2\n1.000;1,5\n2.000;2,5\n"
    log = NormLog.load(written(tmp_path, text))
    assert (log.steps.tolist(), log.norms["l2"].tolist()) == ([1000, 2000], [1.5, 2.5])
    text = "step;l2\n1'000;1.5\n2 000;2.5\n"
    assert NormLog.load(written(tmp_path, text)).steps.tolist() == [1000, 2000]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("step,l2", "1,000,1.5"),  # a thousand
        ("step,l2", "10,1,5"),  # one and a half
        ("step,l2", "1,10,1.5"),  # a row's name, as R writes it
    ],
)
def test_rows_with_more_cells_than_there_are_names_are_refused(tmp_path, header, row):
    with pytest.raises(ValueError, match="row 2: 3 cells under 2 names"):
        NormLog.load(written(tmp_path, f"{header}\n9,1.0\n{row}\n"))


@pytest.mark.parametrize(
    "cell", ["nan", "NaN", "inf", "-Infinity", "1.#QNAN", "-nan(ind)", "#NUM!"]
)
def test_a_norm_that_is_not_finite_is_a_record_that_cannot_be_used(tmp_path, cell):
    log = NormLog.load(written(tmp_path, PLAIN.replace(f"500,{NORMS[50]},", f"500,{cell},")))
    assert len(log.steps) == 100
    assert not math.isfinite(log.norms["l2"][50])
    assert refine(log).diagnostics.num_unusable == 1


@pytest.mark.parametrize("cell", ["", "null", "None", "N/A", "-", "#N/A"])
def test_an_empty_norm_is_no_record(tmp_path, cell):
    log = NormLog.load(written(tmp_path, PLAIN.replace(f"500,{NORMS[50]},", f"500,{cell},")))
    assert 500 not in log.steps
    assert refine(log).diagnostics.num_unusable == 0


# -- names of columns -------------------------------------------------------------------------

STEP_NAMES = ["step", "Step", "STEPS", "_step", "global_step", "train/global_step", "iter"]
STEP_NAMES += ["trainer/global_step", "iteration", "Iteration", "global step", "num_updates"]
STEP_NAMES += ["globalStep", "n_steps", "Step #", "gradient_step", "current_iter", "update"]
STEP_NAMES += ["global_step/train", "number of updates", "optimizer_steps"]
NORM_NAMES = ["grad_norm", "Grad_Norm", "train/grad_norm", "train_grad_norm", "grad-norm"]
NORM_NAMES += ["gradient_norm", "Gradient Norm", "gnorm", "global_norm", "total_norm", "norm"]
NORM_NAMES += ["grad_2.0_norm_total", "grad_norm_step", "optim/total_grad_norm", "grad/norm"]
NORM_NAMES += ["l2_norm/grad/global", "run 1 - train/grad_norm", "lr=1 wd=2 - grad_norm"]
NORM_NAMES += [
    "gradNorm",
    "train/gradNorm",
    "grad_norm/all",
    "gnorm_clipped",
    "grad_norm_post_clip",
]
NORM_NAMES += ["avg_grad_norm", "total_gradnorm", "L2 norm of gradients", "pre_clip_grad_norm"]
LR_NAMES = ["lr0", "current_learning_rate", "last_lr", "learningRate", "group0_lr"]
LR_NAMES += ["lr", "LR", "learning_rate", "train/learning_rate", "learning-rate", "Learning Rate"]
LR_NAMES += ["lr-AdamW", "lr-AdamW/pg1", "optim/learning_rate_group0"]


@pytest.mark.parametrize("name", STEP_NAMES)
def test_steps_are_known_by_the_names_that_loggers_give_them(tmp_path, name):
    check(NormLog.load(written(tmp_path, csv(f"loss,{name},grad_norm", NORMS, STEPS, NORMS))))


@pytest.mark.parametrize("name", NORM_NAMES)
def test_norms_are_known_by_the_names_that_loggers_give_them(tmp_path, name):
    check(NormLog.load(written(tmp_path, csv(f"loss,step,{name}", LRS, STEPS, NORMS))))


@pytest.mark.parametrize("name", LR_NAMES)
def test_learning_rates_are_known_by_the_names_that_loggers_give_them(tmp_path, name):
    log = NormLog.load(written(tmp_path, csv(f"step,grad_norm,{name}", STEPS, NORMS, LRS)))
    assert log.lrs is not None
    assert log.lrs.tolist() == LRS


def test_lightnings_name_of_a_learning_rate_names_the_optimizer(tmp_path):
    path = written(tmp_path, csv("step,grad_norm,lr-SGD", STEPS, NORMS, LRS))
    assert NormLog.load(path).optimizer == "SGD"
    assert refine(NormLog.load(path)).diagnostics.kind == "sgd"


def test_steps_of_the_optimizer_go_before_calls_of_the_logger(tmp_path):
    calls = [3 * step for step in STEPS]
    check(
        NormLog.load(
            written(tmp_path, csv("_step,train/global_step,grad_norm", calls, STEPS, NORMS))
        )
    )


def test_norms_of_evaluation_and_of_single_layers_are_not_those_of_the_gradient(tmp_path):
    other = [9.0] * 100
    header = "step,eval/grad_norm,grad_norm/layer1,grad_norm,val_grad_norm,train/grad_norm__MIN"
    check(NormLog.load(written(tmp_path, csv(header, STEPS, other, other, NORMS, other, other))))


@pytest.mark.parametrize(
    "other", ["max_grad_norm", "clip_grad_norm", "grad_norm_std", "grad_norm/2", "grad_norm.1"]
)
def test_what_is_no_norm_of_the_whole_gradient_is_not_taken_for_it(tmp_path, other):
    log = NormLog.load(written(tmp_path, csv(f"step,{other},grad_norm", STEPS, LRS, NORMS)))
    check(log)
    assert list(log.norms) == ["l2"]
    with pytest.raises(ValueError, match=f"no column of gradient norms; it has step, {other}: say"):
        NormLog.load(written(tmp_path, csv(f"step,{other}", STEPS, NORMS)))


def test_norms_after_clipping_go_before_others(tmp_path):
    names = "grad_norm_pre_clip,grad_norm,grad_norm_post_clip"
    check(NormLog.load(written(tmp_path, csv(f"step,{names}", STEPS, LRS, LRS, NORMS))))


def test_two_columns_of_steps_must_not_contradict_each_other(tmp_path):
    with pytest.raises(ValueError, match=r"several columns of steps, step: .*--column"):
        NormLog.load(written(tmp_path, csv("step,l2,step", STEPS, NORMS, range(100))))


def test_weight_decay_beside_learning_rates_of_unknown_name_is_said(tmp_path):
    path = written(tmp_path, csv("step,l2,weight_decay,rate", STEPS, NORMS, [0.1] * 100, LRS))
    assert any("--column THEIRS=lr" in note for note in NormLog.load(path).notes)
    log = NormLog.load(path, {"rate": "lr"})
    assert not any("--column THEIRS=lr" in note for note in log.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (csv("step,l2", [10**30 * s for s in STEPS], NORMS), "which is no step.*--column"),
        (csv("step,l2,total_steps", STEPS, NORMS, ["inf"] * 100), "total_steps is inf"),
        (csv("step,l2,total_steps", STEPS, NORMS, [1e300] * 100), r"total_steps is 1e\+300"),
        (csv("step,l2,total_steps", STEPS, NORMS, [-5] * 100), "total_steps is -5"),
        ("[" * 100_000, "JSON of too many levels"),
        ('{"step": ' * 100_000, "JSON of too many levels"),
        (f'[{{"step": {"9" * 400}, "l2": 1}}]', "rows without a step"),
        ('{"columns": ["step"], "data": ["a"]}', "no column of gradient norms"),
        ('{"l2": {"steps": [1], "values": 3}}', "JSON without a list of records"),
    ],
)
def test_numbers_and_forms_of_no_run_are_refused_in_a_line(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as refusal:
        NormLog.load(written(tmp_path, text))
    assert "\n" not in str(refusal.value)


def test_a_step_before_the_first_is_refused(tmp_path):
    with pytest.raises(ValueError, match="steps must be 0 or more, got -10"):
        NormLog.load(written(tmp_path, csv("step,l2", [s - 10 for s in STEPS], NORMS)))


def test_a_column_twice_counts_once_and_must_not_contradict_itself(tmp_path):
    check(NormLog.load(written(tmp_path, csv("step,l2,l2", STEPS, NORMS, NORMS))))
    with pytest.raises(ValueError, match=r"several columns of gradient norms, l2: .*--column"):
        NormLog.load(written(tmp_path, csv("step,l2,l2", STEPS, NORMS, LRS)))


def test_of_a_chart_of_two_runs_one_is_to_be_chosen(tmp_path):
    header = "Step,a - grad_norm,a - lr,b - grad_norm,b - lr"
    path = written(tmp_path, csv(header, STEPS, LRS, NORMS, NORMS, LRS))
    with pytest.raises(ValueError, match="several columns of gradient norms, a - grad_norm, b - "):
        NormLog.load(path)
    log = NormLog.load(path, {"b - grad_norm": "l2"})
    check(log)
    assert log.lrs is not None
    assert log.lrs.tolist() == LRS


def test_what_is_said_of_a_column_may_differ_in_case(tmp_path):
    path = written(tmp_path, csv("\ufeffStep,Clipped Norm", STEPS, NORMS))
    check(NormLog.load(path, {"clipped norm": "l2"}))


# -- tables with a row for each measurement ---------------------------------------------------


def long_rows(name: str) -> str:
    return "".join(
        f"{name}{tag},{step},{value}\n"
        for tag, values in (("loss", LRS), ("train/grad_norm", NORMS), ("train/lr", LRS))
        for step, value in zip(STEPS, values, strict=True)
    )


@pytest.mark.parametrize(
    "header",
    ["tag,step,value", "key,Step,Value", "metric,step,value", "metricName,step,metricValue"],
)
def test_a_row_for_each_measurement_is_read(tmp_path, header):
    log = NormLog.load(written(tmp_path, f"{header}\n{long_rows('')}"))
    check(log)
    assert log.lrs is not None
    assert log.lrs.tolist() == LRS


def test_a_column_of_metrics_goes_before_one_of_names_of_runs(tmp_path):
    check(NormLog.load(written(tmp_path, f"name,metric,step,value\n{long_rows('my run,')}")))


def test_of_several_runs_of_tensorboard_one_is_to_be_chosen(tmp_path):
    text = f"run,tag,step,value\n{long_rows('a,')}{long_rows('b,')}"
    path = written(tmp_path, text.replace("b,train/grad_norm,0,2.0", "b,train/grad_norm,0,3.0"))
    with pytest.raises(ValueError, match=r"several runs.*--where"):
        NormLog.load(path)
    check(NormLog.load(path, where={"run": "a"}))


@pytest.mark.parametrize(
    "text",
    [
        csv("Wall time,Step,Value", [1.7e9 + s for s in STEPS], STEPS, NORMS),
        json.dumps([[1.7e9 + s, s, n] for s, n in zip(STEPS, NORMS, strict=True)]),
        json.dumps(list(zip(STEPS, NORMS, strict=True))),
        "".join(f"[{s}, {n}]\n" for s, n in zip(STEPS, NORMS, strict=True)),
        "".join(f"{1700000000000 + s} {n} {s}\n" for s, n in zip(STEPS, NORMS, strict=True)),
    ],
    ids=["tensorboard csv", "tensorboard json", "json pairs", "pairs a line", "mlflow"],
)
def test_one_measurement_without_a_name_is_taken_for_the_norm_and_that_is_said(tmp_path, text):
    log = NormLog.load(written(tmp_path, text))
    check(log)
    assert "alue is taken for the l2 norm of the gradient" in log.notes[0]


# -- rows and steps ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "begin", "total"),
    [
        (range(1000), 0, 1000),
        (range(1, 1001), 1, 1000),
        (range(0, 1000, 10), 0, 1000),
        (range(10, 1001, 10), 10, 1000),
        (range(9, 1000, 10), 9, 1000),
        (range(1, 1000, 10), 1, 1000),
        ([1, *range(10, 1001, 10)], 1, 1000),
        ([0, *range(9, 1000, 10)], 0, 1000),
        ([*range(0, 1000, 10), 999], 0, 1000),
        ([*range(10, 1000, 10), 997], 10, 997),
        ([*range(0, 300, 10), *range(700, 1000, 10)], 0, 1000),
        ([*range(100), *range(100, 1000, 100)], 0, 1000),
        ([*range(10, 101, 10), *range(200, 1001, 100)], 10, 1000),
        (range(7, 1000, 10), 7, 1000),
        ([5], 1, 1),
    ],
)
def test_the_steps_of_a_run_are_counted_however_a_program_numbers_them(steps, begin, total):
    assert first_and_total(np.array(steps)) == (begin, total)


def test_cells_of_a_step_may_stand_in_several_rows(tmp_path):
    rows = "".join(
        f"{s},,{lr}\n{s},{n},\n{s},,\n" for s, n, lr in zip(STEPS, NORMS, LRS, strict=True)
    )
    log = NormLog.load(written(tmp_path, f"step,grad_norm,lr\n{rows}"))
    check(log)
    assert log.lrs is not None
    assert log.lrs.tolist() == LRS


def test_learning_rates_of_other_steps_are_interpolated_and_that_is_said(tmp_path):
    rows = "".join(f"{s},{n},\n{s + 5},,{s + 5}\n" for s, n in zip(STEPS, NORMS, strict=True))
    log = NormLog.load(written(tmp_path, f"step,grad_norm,lr\n{rows}"))
    check(log)
    assert log.lrs is not None
    assert log.lrs[1:].tolist() == STEPS[1:]
    assert any("interpolated" in note for note in log.notes)


def test_rows_of_evaluations_are_no_records(tmp_path):
    records = [r for r in RECORDS for r in (r, {"step": r["step"], "eval_loss": 1.0})]
    check(NormLog.load(written(tmp_path, json.dumps({"log_history": records}))))


def test_a_run_is_as_long_as_its_rows_though_norms_end_before(tmp_path):
    rows = "".join(f"{step},,1\n" for step in range(1000, 1100, 10))
    log = NormLog.load(written(tmp_path, csv("step,l2,loss", STEPS, NORMS, LRS) + rows))
    assert log.total_steps == 1090


def test_a_trainers_state_tells_how_long_the_run_was_and_was_to_be(tmp_path):
    state = {"global_step": 995, "max_steps": 2000, "log_history": RECORDS}
    log = NormLog.load(written(tmp_path, json.dumps(state)))
    assert log.total_steps == 995
    assert "was to make 2000 steps" in log.notes[0]


def resumed(at: int, to: int) -> str:
    """A run that was resumed at a step, with norms ten times as large from there."""
    again = "".join(f"{s},{10 * n}\n" for s, n in zip(STEPS, NORMS, strict=True) if at <= s < to)
    return csv("step,l2", STEPS, NORMS) + again


def test_after_a_resume_the_later_rows_count_and_that_is_said(tmp_path):
    log = NormLog.load(written(tmp_path, resumed(500, 1000)))
    assert log.norms["l2"].tolist() == [n if s < 500 else 10 * n for s, n in zip(STEPS, NORMS)]  # noqa: B905
    assert "50 steps are there twice" in log.notes[0]


def test_what_lies_beyond_the_end_of_the_resumed_part_is_left_out_and_that_is_said(tmp_path):
    log = NormLog.load(written(tmp_path, resumed(500, 800)))
    assert log.steps[-1] == 790
    assert log.total_steps == 800
    assert "20 rows after 790 are of a part that was not gone on with" in log.notes[1]


def test_two_runs_one_after_the_other_are_not_taken_for_one(tmp_path):
    with pytest.raises(ValueError, match=r"200 rows for 100 steps: several runs.*--where"):
        NormLog.load(written(tmp_path, resumed(0, 1000)))


def test_rows_in_no_order_are_sorted(tmp_path):
    order = np.random.default_rng(0).permutation(100)
    text = csv("step,l2", [STEPS[i] for i in order], [NORMS[i] for i in order])
    check(NormLog.load(written(tmp_path, text)))


def test_steps_that_begin_anew_with_each_epoch_are_counted_on_and_that_is_said(tmp_path):
    epochs = [step // 250 for step in STEPS]
    text = csv("epoch,step,l2", epochs, [step % 250 for step in STEPS], NORMS)
    log = NormLog.load(written(tmp_path, text))
    check(log)
    assert "begins anew with each epoch" in log.notes[0]


def test_a_note_says_when_rows_stand_in_for_steps(tmp_path):
    log = NormLog.load(written(tmp_path, csv("loss,l2", LRS, NORMS)))
    assert log.steps.tolist() == list(range(100))
    assert "each row with a norm stands in" in log.notes[0]
    assert "--column" in log.notes[0]
    assert log.notes[0] in str(refine(log).diagnostics)


def test_epochs_place_the_rows_that_stand_in_for_steps(tmp_path):
    epochs = [step / 1000 for step in STEPS if not 400 < step < 600]
    log = NormLog.load(written(tmp_path, csv("epoch,l2", epochs, epochs)))
    assert log.total_steps == 100
    assert np.diff(log.steps).max() == 20
    assert "rows stand in, at their epoch" in log.notes[0]


def test_steps_may_be_counted_in_tokens_and_that_is_said(tmp_path):
    tokens = [4_194_304 * (i + 1) for i in range(100)]
    log = NormLog.load(written(tmp_path, csv("tokens,grad_norm", tokens, NORMS)))
    assert log.total_steps == 100 * 4_194_304
    assert "counted in tokens" in log.notes[0]


def test_norms_missing_in_mid_run_are_warned_of(tmp_path):
    kept = [i for i, step in enumerate(STEPS) if not 300 <= step < 700]
    text = csv("step,l2", [STEPS[i] for i in kept], [NORMS[i] for i in kept])
    log = NormLog.load(written(tmp_path, text))
    assert log.total_steps == 1000
    warnings = refine(log).diagnostics.warnings
    assert any("no norms between the steps 290 and 700, 41% of the run" in w for w in warnings)


# -- clipping ---------------------------------------------------------------------------------


def test_norms_that_were_recorded_before_clipping_can_be_clipped():
    log = NormLog(np.arange(4), {"l2": np.array([0.5, 1, 2, 4]), "l1": np.array([1.0, 2, 4, 8])})
    clipped = log.clipped(1.0)
    assert clipped.norms["l2"].tolist() == [0.5, 1, 1, 1]
    assert clipped.norms["l1"].tolist() == [1, 2, 2, 2]
    assert clipped.notes == ("50% of the norms exceed 1 and are clipped to it",)
    assert "changes nothing" in log.clipped(5.0).notes[0]


def test_a_norm_to_clip_to_is_positive_and_needs_l2_norms():
    log = NormLog(np.arange(2), {"l1": np.ones(2)})
    with pytest.raises(ValueError, match="needs l2 norms; the log has l1"):
        log.clipped(1.0)
    with pytest.raises(ValueError, match="positive and finite, got 0"):
        log.clipped(0)


def test_a_note_says_whether_norms_look_clipped(tmp_path):
    before = NormLog.load(written(tmp_path, csv("step,grad_norm", STEPS, NORMS)))
    after = NormLog.load(written(tmp_path, csv("step,grad_norm", STEPS, np.minimum(NORMS, 1.5))))
    small = NormLog.load(written(tmp_path, csv("step,grad_norm", STEPS, np.multiply(NORMS, 0.1))))
    assert "recorded before it; say to what norm, with --clip" in before.notes[-1]
    assert "recorded after clipping" in after.notes[-1]
    assert small.notes == ()
    assert not any("--clip" in note for note in before.clipped(1.0).notes)


# -- the optimizer ----------------------------------------------------------------------------


def test_an_unnamed_log_is_taken_for_adamws_and_that_is_said(tmp_path):
    diagnostics = refine(NormLog.load(written(tmp_path, PLAIN))).diagnostics
    assert (diagnostics.kind, diagnostics.assumed) == ("adam", "AdamW")
    assert "AdamW's is assumed" in str(diagnostics).splitlines()[0]


def test_a_named_optimizer_or_kind_leaves_nothing_to_assume(tmp_path):
    log = NormLog.load(written(tmp_path, csv("step,l2,optimizer", STEPS, NORMS, ["sgd"] * 100)))
    assert refine(log).diagnostics.kind == "sgd"
    assert refine(log).diagnostics.assumed is None
    assert refine(NormLog.load(written(tmp_path, PLAIN)), kind="sgd").diagnostics.assumed is None


# -- the command ------------------------------------------------------------------------------


def refused(tmp_path, capsys, text: str | bytes, *options: str, name: str = "log.csv") -> str:
    assert main(["refine", str(written(tmp_path, text, name)), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (csv("step,my_norm", STEPS, NORMS), ()),
        (csv("step,grad_norm", STEPS, NORMS), ("--column", "norm=l2")),
        (csv("step,l2", STEPS, ["high"] * 100), ()),
        ("step,l2\n0,1\n,2\n2,3\n", ()),
        (csv("Step,a - grad_norm,b - grad_norm", STEPS, NORMS, LRS), ()),
        (csv("step,l2,rate", STEPS, NORMS, LRS), ("--weight-decay", "0.1")),
        (csv("step,l2,rate", STEPS, NORMS, LRS), ("--decouple", "model")),
        (csv("step,l2", STEPS, NORMS), ("--decouple", "weight_norm")),
        (csv("step,l2", STEPS, NORMS), ("--kind", "update")),
    ],
)
def test_an_error_that_naming_a_column_mends_says_so(tmp_path, capsys, text, options):
    assert "--column" in refused(tmp_path, capsys, text, *options)


LLM_C = "".join(f"s:{s} trl:3.2 lr:0.0006 norm:{n}\n" for s, n in zip(STEPS, NORMS, strict=True))
TORCHTITAN = "".join(
    f"[titan] 2026-01-01 - root - INFO - \x1b[31mstep: {s}  \x1b[32mloss:  8.1  grad_norm:  {n}\n"
    for s, n in zip(STEPS, NORMS, strict=True)
)
PRINTED = "".join(
    f"12:00:00 step={s} loss=1.5 grad_norm={n} lr=0.1\n" for s, n in zip(STEPS, NORMS, strict=True)
)
MEGATRON = "".join(
    f" iteration {s:8d}/    1000 | consumed samples: 8 | grad norm: {n} | skipped iterations: 0 |\n"
    for s, n in zip(STEPS, NORMS, strict=True)
)


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("llm.c", LLM_C),
        ("llm.c", "step    1/19560 | loss 11.0 (+nanz)| norm 15.3 (+nanz)| lr 8e-07 | 3000 ms\n"),
        ("torchtitan", TORCHTITAN),
        ("Megatron-LM", MEGATRON),
        ("nanoGPT", "iter 0: loss 10.9, time 5000.00ms, mfu -100.00%\n"),
        ("transformers", "{'loss': 2.3, 'grad_norm': 1.2, 'epoch': 0.01}\n"),
        ("TensorBoard", b"\x18\x00\x00"),
        ("zip archive", b"PK\x03\x04\x00"),
        ("Zstandard", b"\x28\xb5\x2f\xfd"),
        ("no text", b"\x80\x04\x95\x00"),
        ("print-out", "2026-01-01 10:00:00,123 INFO step 7 loss 1.0 grad_norm 2.0\n"),
        ("print-out", "Iteration: 7, loss: 1.0, gradient norm: 2.0\n"),
    ],
)
def test_a_log_that_is_not_read_is_named(tmp_path, capsys, program, text):
    name = "events.out.tfevents.1" if program == "TensorBoard" else "main.log"
    assert program in refused(tmp_path, capsys, text, name=name)


@pytest.mark.skipif(shutil.which("sed") is None, reason="needs sed")
@pytest.mark.parametrize(
    "text", [LLM_C, MEGATRON, PRINTED], ids=["llm.c", "Megatron-LM", "another program's"]
)
def test_the_remedy_for_a_text_log_makes_a_table_that_is_read(tmp_path, capsys, text):
    remedy = refused(tmp_path, capsys, text, name="FILE").split("make a table of it: ")[1]
    command = ["bash", "-c", f"{remedy.strip()} > norms.csv"]
    subprocess.run(command, cwd=tmp_path, check=True)
    check(NormLog.load(tmp_path / "norms.csv"))


def test_signs_of_equality_may_stand_in_the_names_of_columns(tmp_path, capsys):
    name = "lr=0.001 wd=0.1 - train/norm"
    path = str(written(tmp_path, csv(f"Step,a=b,{name}", STEPS, ["c=d"] * 100, NORMS)))
    options = ["--column", f"{name}=l2", "--where", "a=b=c=d"]
    assert main(["refine", path, *options]) == 0
    assert capsys.readouterr().out.startswith("1000 steps; ")


def test_the_optimizer_and_the_norm_that_gradients_were_clipped_to_can_be_said(tmp_path, capsys):
    path = str(written(tmp_path, csv("step,l2", STEPS, NORMS)))
    assert main(["refine", path, "--optimizer", "SGD", "--clip", "1.5"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("1000 steps; weights: sgd, norm^-2, decoupled by none\n")
    assert "note: 50% of the norms exceed 1.5 and are clipped to it" in said


def test_a_picture_takes_no_longer_for_a_run_of_many_steps(tmp_path, capsys):
    tokens = [4_194_304 * (i + 1) for i in range(100)]
    path = written(tmp_path, csv("tokens,grad_norm", tokens, NORMS))
    assert main(["refine", str(path), "--png", str(tmp_path / "picture.png")]) == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pipe that is closed early")
def test_a_reader_that_has_enough_gives_no_traceback(tmp_path):
    path = written(tmp_path, PLAIN)
    command = f"{sys.executable} -m selftune.schedules refine {path} | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr == ""
