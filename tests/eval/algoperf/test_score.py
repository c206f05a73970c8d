import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from official_runs import write_trial
from synthetic import studies

from eval import score
from eval.algoperf import published
from eval.algoperf.benchmark import V05
from eval.files import file_name


def logs_of(folder, seconds=1400.0, workload="fastmri", number=5):
    for study in range(number):
        rows = [(1, 9.0, 0.2), (300, seconds + study, V05.workloads[workload].target)]
        write_trial(folder, workload, study, rows, metric=V05.workloads[workload].metric.name)


def test_the_published_leaderboards_are_printed_with_our_scores(capsys):
    assert score.main(["--published"]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert ["schedule_free_adamw", "0.8542", "0.8542", "0.8539", "0.8542", "0.6944"] in [
        row[:6] for row in rows
    ]
    assert ["shampoo", "0.6244", "0.6244"] in [row[:3] for row in rows]
    assert text.endswith("All published scores come out, to four digits.\n")


def test_a_score_that_does_not_come_out_is_an_error(capsys, monkeypatch):
    monkeypatch.setitem(published.FIELDS["published-v0.5"].scores, "baseline", 0.8195)
    assert score.main(["--published"]) == 1
    text = capsys.readouterr().out
    assert text.endswith("published-v0.5: baseline was given 0.8195 and is 0.8194\n")


def test_official_logs_are_scored_against_the_published_field(tmp_path, capsys):
    logs_of(tmp_path / "mine")
    assert score.main([str(tmp_path / "mine"), "--against", "published-v0.5"]) == 0
    text = capsys.readouterr().out
    assert "mine scores 0." in text
    assert "not an AlgoPerf score" in text
    assert "This report cannot tell whether" in text
    assert "AlgoPerf v0.5, median of 5 studies, budget 3 x runtime" in text


def test_our_own_results_file_is_scored_alike(tmp_path, capsys):
    logs_of(tmp_path / "mine")
    score.main([str(tmp_path / "mine")])
    from_logs = capsys.readouterr().out
    from eval.algoperf import logs

    records = logs.read(tmp_path / "mine", V05)
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    score.main([str(path)])
    assert capsys.readouterr().out == from_logs


def test_the_report_is_written_as_files(tmp_path, capsys):
    logs_of(tmp_path / "mine")
    score.main([str(tmp_path / "mine"), "--out", str(tmp_path / "out")])
    markdown = (tmp_path / "out" / "score.md").read_text()
    page = (tmp_path / "out" / "score.html").read_text()
    for title in ("Seconds to the target", "Steps to the target", "Spread over seeds"):
        assert title in markdown
        assert title in page
    assert page.count("<svg ") == 2
    rows = list(csv.DictReader((tmp_path / "out" / "score.csv").read_text().splitlines()))
    mine = [row for row in rows if row["submission"] == "mine"]
    assert [row["seconds_to_target"] for row in mine] == [f"{1400.0 + k}" for k in range(5)]
    assert {row["source"] for row in rows} == {"run", "published-v0.5"}


def test_failures_are_listed_with_how_near_they_came(tmp_path, capsys):
    for study in range(2):
        write_trial(tmp_path / "mine", "fastmri", study, [(1, 9.0, 0.2), (300, 99.0, 0.71)])
    score.main([str(tmp_path / "mine")])
    assert "missed ssim 0.72365: best 0.71, 0.71" in capsys.readouterr().out


def test_runs_are_exported_as_official_logs(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in studies("ctr_dlrm", "mine", 500, 700)))
    assert score.main([str(path), "--against", "none", "--export", str(tmp_path / "x")]) == 0
    written = tmp_path / "x/logs/mine/study_1/ctr_dlrm_pytorch/trial_1/eval_measurements.csv"
    assert written.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the runs to score"),
        (["missing"], "no such file or folder: missing"),
        (["."], "no logs in"),
        ([".", "--against", "published-v0.7"], "unknown published field 'published-v0.7'; did you"),
        ([".", "--against", "none", "--rules", "v1"], "unknown rules 'v1'"),
        (["--published", "."], "--published scores no other runs"),
        (["--project", "adamw", "--out", "x"], "--out goes with runs to score"),
        (["--published", "--export", "x"], "--export goes with runs to score"),
        ([".", "--price", "20"], "--price goes with --project METHOD"),
        ([".", "--rules", "v0.6"], "--rules goes with --against none or --project"),
        (["--project", "nobody"], "no workload has trials of both nobody and nadamw"),
    ],
)
def test_mistakes_are_one_line_with_a_remedy(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score.baselines, "read", list)
    with pytest.raises(SystemExit) as exit:
        score.main(arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_pocket_results_are_not_scored_against_algoperf(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in studies("ctr_dlrm", "mine", 500)))
    with pytest.raises(SystemExit):
        score.main([str(path)])
    assert "ctr_dlrm is not a workload of published-v0.5" in capsys.readouterr().err


def test_the_same_trial_twice_is_refused(tmp_path, capsys):
    logs_of(tmp_path / "mine", number=1)
    with pytest.raises(SystemExit):
        score.main([str(tmp_path / "mine"), str(tmp_path / "mine")])
    assert "fastmri mine 0 is there twice" in capsys.readouterr().err


def test_a_method_is_projected_from_pocket_trials(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    records = [*studies("ctr_dlrm", "nadamw", 500), *studies("ctr_dlrm", "mine", 500)]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert score.main([str(path), "--project", "mine", "--price", "20"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("A projection, not a measurement\n")
    assert "at 20 an hour" in text


def test_pocket_results_are_scored_into_files_too(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    records = [*studies("ctr_dlrm", "mine", 400, None), *studies("image_vit", "other", None, None)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert score.main([str(path), "--against", "none", "--out", str(tmp_path / "report")]) == 0
    assert "</html>" in (tmp_path / "report" / "score.html").read_text()
    assert "not an AlgoPerf score" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["../../P", "/tmp/P", "..", ".", "a/b", "a\0b", "x" * 1000, "\ud800"]
)
@pytest.mark.parametrize("which", ["method", "workload"])
def test_an_export_stays_in_its_folder_whatever_the_names_are(tmp_path, name, which):
    path = tmp_path / "deep" / "er" / "results.jsonl"
    path.parent.mkdir(parents=True)
    records = [record | {which: name} for record in studies("ctr_dlrm", "mine", 400)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    folder = path.parent / "out"
    assert score.main([str(path), "--against", "none", "--export", str(folder)]) == 0
    assert len(list(folder.glob("logs/*/study_0/*/trial_1/eval_measurements.csv"))) == 1
    written = {p for p in tmp_path.rglob("*") if p.is_file()} - {path}
    assert all(folder in p.parents for p in written)
    assert len(written) == 2


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_file_name_is_one_name_and_another_for_another_text(one, other):
    name = file_name(one)
    assert Path(name).name == name
    assert len(name.encode()) <= 255
    assert not name.startswith(".")
    assert (file_name(one) == file_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["nadamw", "schedule_free_adamw", "nadamw (yours)", "v0.5-x"])
def test_a_harmless_name_is_the_files_name(name):
    assert file_name(name) == name
