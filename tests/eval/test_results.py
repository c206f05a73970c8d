import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import trial

import eval
from eval.results import Results, read
from eval.schema import problem

RECORDS = [
    trial(workload, "prodigy", study, hit=100, configuration="größer")
    for workload in ("ctr_dlrm", "image_vit")
    for study in range(2)
]


def write(path, records=RECORDS):
    with Results(path) as results:
        for record in records:
            results.append(record)
    return path


def test_records_come_back_as_they_were_appended(tmp_path):
    path = write(tmp_path / "new" / "folder" / "results.jsonl")
    with Results(path) as results:
        assert results.records == RECORDS
        assert results.bytes_cut == 0
    assert read(path) == RECORDS
    assert path.read_bytes().count(b"\n") == len(RECORDS)


def test_a_file_that_is_not_there_has_no_records(tmp_path):
    assert read(tmp_path / "results.jsonl") == []


@given(st.data())
def test_a_file_cut_at_any_byte_can_be_completed(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("run") / "results.jsonl")
    whole = path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]  # of whole records
    cut = data.draw(
        st.integers(0, len(whole)) | st.sampled_from([e + n for e in ends for n in (0, 1)]),
        label="cut",
    )
    path.write_bytes(whole[:cut])
    kept = sum(cut >= end for end in ends)
    assert read(path) == RECORDS[:kept]
    with Results(path) as results:
        assert results.records == RECORDS[:kept]
        assert results.bytes_cut == max(0, cut - ([-1, *ends][kept] + 1))
        for record in RECORDS[len(results.records) :]:
            results.append(record)
    assert path.read_bytes() == whole


def test_a_damaged_last_line_is_cut_even_if_it_has_an_end(tmp_path):
    path = write(tmp_path / "results.jsonl")
    with path.open("ab") as file:
        file.write(b"\0\0\0\n")
    with Results(path) as results:
        assert results.records == RECORDS
        assert results.bytes_cut == 4
    assert read(path) == RECORDS


def test_a_complete_record_without_its_newline_is_kept(tmp_path):
    path = write(tmp_path / "results.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with Results(path) as results:
        assert results.records == RECORDS
        assert results.bytes_cut == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage",
    [
        *(b'{"workload": "ct', b"[1, 2]", b'{"a": 1}', b"\xff", b"null", b'"text"', b"7"),
        *(b"[" * 100_000, b'{"workload": NaN}'),
    ],
)
def test_a_damaged_earlier_line_is_named_and_the_rest_is_kept(tmp_path, damage, capsys):
    path = write(tmp_path / "results.jsonl")
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    content = b"\n".join(lines)
    path.write_bytes(content)
    kept = [RECORDS[0], *RECORDS[2:]]
    assert read(path) == kept
    assert "results.jsonl, line 2 is left out: " in capsys.readouterr().err
    with Results(path) as results:
        assert results.records == kept
    assert path.read_bytes() == content
    assert capsys.readouterr().err.count("\n") == 1


def test_many_damaged_lines_are_counted(tmp_path, capsys):
    path = write(tmp_path / "results.jsonl")
    path.write_bytes(b"{}\n" * 1000 + path.read_bytes())
    assert read(path) == RECORDS
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 10
    assert lines[-1].endswith("995 more lines are left out")


@pytest.mark.parametrize(
    "text",
    [
        *(b"my thesis, chapter 1", b"my thesis\nchapter 1\n", b'{"a": 1}', b"epoch,loss\n1,2\n"),
        *(b'{\n  "workload": "ctr"\n}\n', b"\xff\xfe\x00", b"[]"),
    ],
)
def test_a_foreign_text_in_the_place_of_results_is_refused_and_not_touched(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_bytes(text)
    for opened in (read, Results):
        with pytest.raises(ValueError, match="holds no records of trials") as refusal:
            opened(path)
        assert "\n" not in str(refusal.value)
    assert path.read_bytes() == text


def test_a_foreign_last_line_is_left_where_it_is(tmp_path):
    path = write(tmp_path / "results.jsonl", RECORDS[:2])
    before = path.read_bytes() + b"a remark of mine"
    path.write_bytes(before)
    with Results(path) as results:
        assert results.records == RECORDS[:2]
        results.append(RECORDS[2])
    assert path.read_bytes().startswith(before + b"\n")
    assert read(path) == RECORDS[:3]


def _changed(place, value):
    """A record with something else at a place like "rules.budget"."""
    record = json.loads(json.dumps(RECORDS[0]))
    *outer, last = place.split(".")
    inner = record
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return record


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("rules", None), ("rules", []), ("seconds", None), ("versions", 3), ("curve", None)),
        *(("study", -1), ("study", 10**9), ("study", 1.0), ("study", True), ("study", "0")),
        *(("workload", ""), ("workload", None), ("method", 3), ("method", " "), ("outcome", "ok")),
        *(("outcome", []), ("reason", 3), ("steps", None), ("steps", -1), ("steps", 10**30)),
        *(("steps_to_target", None), ("steps_to_target", 0), ("curve", [[1, 2]])),
        *(("curve", [[1, 2, "x"]]), ("curve", [[10**400, None, None]]), ("curve", [None])),
        *(("rules.budget", None), ("rules.budget", 0), ("rules.budget", "3"), ("rules.seed", -0.5)),
        *(("rules.step_hint", 0), ("rules.step_hint", 10**400), ("rules.target", "low")),
        *(("rules.metric", None), ("rules.higher_is_better", 1), ("rules.method", None)),
        *(("seconds.curve", []), ("seconds.training", None), ("seconds.to_target", None)),
        *(("seconds.evaluation", -1), ("versions.device", None), ("best_validation", "0.5")),
        *(("test", []), ("final_validation", True), ("ablated", "mine")),
        *(("rules.budget", 1e300), ("rules.step_hint", 1e300), ("averages", None)),
        *(("objections", None), ("objections", [["few norms"]]), ("target_from", 3)),
        *(("norms", []), ("norms", {"steps": [1], "series": {"lrs": []}})),
        *(("protocol", {"seeds": 1}), ("configuration", {"lr": "1e-3"})),
    ],
)
def test_a_record_that_no_reader_could_use_is_named_with_what_is_wrong(
    tmp_path, place, value, capsys
):
    path = tmp_path / "results.jsonl"
    lines = [json.dumps(record) for record in (RECORDS[1], _changed(place, value), RECORDS[2])]
    path.write_text("\n".join(lines) + "\n")
    assert read(path) == [RECORDS[1], RECORDS[2]]
    (said,) = capsys.readouterr().err.splitlines()
    assert "line 2 is left out: " in said
    assert len(said) < 300


@pytest.mark.parametrize("name", [*RECORDS[0], "rules.data", "seconds.curve", "versions.torch"])
def test_every_entry_that_readers_use_must_be_there(name):
    record = json.loads(json.dumps(RECORDS[0]))
    outer, _, inner = name.partition(".")
    del (record[outer] if inner else record)[inner or outer]
    assert problem(record) is not None
    assert problem(RECORDS[0]) is None


@pytest.mark.parametrize("folder", ["baselines", "targets"])
def test_all_records_of_the_repository_are_records(folder, capsys):
    for path in sorted((Path(eval.__file__).parent / folder).glob("*.jsonl")):
        assert len(read(path)) > 0
    assert capsys.readouterr().err == ""


def test_records_that_are_set_aside_are_kept_beside_the_others(tmp_path):
    path = write(tmp_path / "results.jsonl")
    with Results(path) as results:
        aside = results.set_aside(lambda record: record["study"] == 0)
        assert [record["study"] for record in results.records] == [1, 1]
        with pytest.raises(ValueError, match="is being written by another run"):
            Results(path)
        results.append(RECORDS[0])
    assert read(path) == [RECORDS[1], RECORDS[3], RECORDS[0]]
    assert read(aside) == [RECORDS[0], RECORDS[2]]
    with Results(path) as results:
        results.set_aside(lambda record: record["study"] == 0)
    assert read(path) == [RECORDS[1], RECORDS[3]]


def test_a_number_that_json_lacks_is_refused_before_it_is_written(tmp_path):
    path = write(tmp_path / "results.jsonl")
    with Results(path) as results, pytest.raises(ValueError, match="not JSON compliant"):
        results.append(RECORDS[0] | {"test": float("nan")})
    assert read(path) == RECORDS


def test_a_full_disk_costs_only_the_line_that_did_not_fit(tmp_path):
    path = write(tmp_path / "results.jsonl", RECORDS[:1])
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Results(path) as results:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                results.append(RECORDS[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert results.records == RECORDS[:1]
    assert path.stat().st_size == size + 10
    with Results(path) as results:
        assert results.records == RECORDS[:1]
        assert results.bytes_cut == 10


def test_two_writers_at_once_are_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    with Results(path) as results:
        with pytest.raises(ValueError, match="is being written by another run"):
            Results(path)
        results.append(RECORDS[0])
    with Results(path) as results:
        assert results.records == RECORDS[:1]


def test_the_kernel_frees_a_file_whose_writer_was_killed(tmp_path):
    path = tmp_path / "results.jsonl"
    script = (
        "import sys, pathlib, eval.results as results\n"
        f"held = results.Results(pathlib.Path({str(path)!r}))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="another run"):
            Results(path)
        writer.kill()
    Results(path).close()
