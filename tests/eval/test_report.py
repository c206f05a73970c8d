import csv
import io
import re
from contextlib import redirect_stdout
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from synthetic import studies, trial

import eval.workloads
from eval import baselines
from eval.methods import METHODS
from eval.reporting.report import report, title

ORDER = ["ctr_dlrm", "image_vit", "translation_transformer"]
ODD = "RuntimeError: shapes <3> | 4 & 'x'\n  do not match"
SOURCE = "sha256 0123456789abcdef"
NADAMW = METHODS["nadamw"].summary
RECORDED = [
    *studies("ctr_dlrm", "nadamw", 1000, 900, 1100, configuration=NADAMW),
    *studies("image_vit", "nadamw", 500, 500, 600, configuration=NADAMW),
    *studies("translation_transformer", "nadamw", None, None, None, configuration=NADAMW),
]
RUN = [
    *studies("ctr_dlrm", "mine", 800, 850, 750, configuration=SOURCE),
    trial("image_vit", "mine", 0, 2100, configuration=SOURCE),
    trial("image_vit", "mine", 1, 2100, configuration=SOURCE),
    trial("image_vit", "mine", 2, reason="diverged at step 400", configuration=SOURCE),
    *(
        trial("translation_transformer", "mine", k, reason=ODD, configuration=SOURCE)
        for k in range(3)
    ),
]
POCKET = tuple(SimpleNamespace(name=name) for name in ORDER)
SUITES = {"pocket": POCKET, "wide": (), "all": POCKET}
TOLD = {"workload": "translation_transformer", "method": "mine", "study": 2, "reason": ODD}


@pytest.fixture(autouse=True)
def three_workloads_and_one_baseline(monkeypatch):
    monkeypatch.setattr(eval.workloads, "SUITES", SUITES)
    monkeypatch.setattr(baselines, "read", lambda: RECORDED)


def read(folder, name):
    return (folder / name).read_text(encoding="utf-8")


def row_of(text, name):
    """What stands in the first line that begins with `name`, cell by cell."""
    (line, *_) = [line for line in text.splitlines() if re.match(rf"\W*{re.escape(name)}\W", line)]
    return re.split(r"\s{2,}|\s*\|\s*", line.strip("| "))


def test_the_terminal_shows_score_hits_and_fractions_of_step_hint(tmp_path, capsys):
    report(RUN, tmp_path)
    text = capsys.readouterr().out
    # nadamw: (4 - 1000/800)/3 and 1 and 0; mine: 1, and 2100 > 4 x 500, and 0
    assert row_of(text, "nadamw") == ["nadamw", "0.639", "2/3", "1.00", "0.50", "miss"]
    assert row_of(text, "mine") == ["mine", "0.333", "2/3", "0.80", "(2.10) 2/3", "failed"]
    assert text.index("nadamw") < text.index("mine ")
    assert "AlgoPerf v0.5's" in text.splitlines()[0]
    assert "In brackets: slower than 4 x the best, no credit." in " ".join(text.split())
    assert "mine is 2nd of 2, with a score of 0.333, 0.306 behind nadamw;" in text
    assert text.isascii()
    assert max(map(len, text.split("written:")[0].splitlines())) <= 100


def test_the_terminal_shows_seconds_apart_and_scores_them_within_one_source(tmp_path, capsys):
    report(RUN, tmp_path)
    text = capsys.readouterr().out.split("Seconds to the target")[1]
    assert row_of(text, "nadamw") == ["nadamw", "recorded", "-", "10.0", "5.0", "miss"]
    assert row_of(text, "mine") == ["mine", "this run", "-", "8.0", "21.0 2/3", "failed"]
    other = [
        *studies("ctr_dlrm", "other", 400, 400, 400),
        *studies("image_vit", "other", None, None, None),
        *studies("translation_transformer", "other", None, None, None),
    ]
    report([*RUN, *other], tmp_path)
    text = capsys.readouterr().out.split("Seconds to the target")[1]
    assert row_of(text, "mine")[2] == f"{((4 - 2) / 3 + 1) / 3:.3f}"
    assert row_of(text, "nadamw")[2] == "-"


def test_every_failure_and_miss_is_in_every_output_with_its_reason(tmp_path, capsys):
    report(RUN, tmp_path)
    reason = "RuntimeError: shapes <3> | 4 & 'x' do not match"
    text = capsys.readouterr().out
    markdown, page = read(tmp_path, "results.md"), read(tmp_path, "report.html")
    assert f"failed: {reason}" in text
    escaped = reason.replace("|", "&#124;").replace("<", "&#60;")
    assert f"failed: {escaped} | 0, 1, 2 |" in markdown
    assert "RuntimeError: shapes &lt;3&gt; | 4 &amp; &#x27;x&#x27; do not match" in page
    for output in (text, markdown, page):
        assert "failed: diverged at step 400" in output
        assert "missed BLEU 20: best 18.1, 18.1, 18.1" in output


def test_the_markdown_says_how_each_method_was_configured_and_decayed(tmp_path):
    report(RUN, tmp_path)
    markdown = read(tmp_path, "results.md")
    decay = METHODS["nadamw"].weight_decay
    assert f"| nadamw | {NADAMW} | {decay} |" in markdown
    assert "| **mine** | sha256 0123456789abcdef | as its source has it |" in markdown
    # alone, study 1 gives (4 - 900/850)/9 + 1/3 and study 2 gives (4 - 1100/750)/9 + 1/3
    row = r"\| nadamw \| 0.639 \| 0.00-\S+ \| 0.61-0.66 \| 2/3 \| 1.00 \| \*\*0.50\*\* \| miss \|"
    assert re.search(row, markdown)
    assert "| ctr_dlrm | log loss | lower | 0.5 | 1000 | 3000 |" in markdown


def test_a_configuration_that_has_changed_since_borrows_no_weight_decay(tmp_path, monkeypatch):
    old = [r | {"rules": r["rules"] | {"method": "NAdamW, lr 7"}} for r in RECORDED]
    monkeypatch.setattr(baselines, "read", lambda: old)
    report(RUN, tmp_path)
    assert "| nadamw | NAdamW, lr 7 | as its source has it |" in read(tmp_path, "results.md")


def test_the_test_metric_is_the_median_over_studies_that_have_one(tmp_path):
    report(RUN, tmp_path)
    table = read(tmp_path, "results.md").split("## Test metric")[1]
    assert row_of(table, "mine") == ["**mine**", "0.4950", "0.7920 2/3", "-"]
    assert row_of(table, "nadamw") == ["nadamw", "0.4950", "0.7920", "17.92"]


def test_the_csv_has_one_row_a_trial_of_both_sources(tmp_path):
    report(RUN, tmp_path)
    rows = list(csv.DictReader(read(tmp_path, "results.csv").splitlines(keepends=True)))
    assert len(rows) == len(RUN) + len(RECORDED)
    assert sum(row["source"] == "recorded" for row in rows) == len(RECORDED)
    (row,) = [
        row
        for row in rows
        if (row["method"], row["workload"], row["study"]) == ("mine", "image_vit", "2")
    ]
    assert (row["outcome"], row["reason"]) == ("failed", "diverged at step 400")
    assert row["steps_to_target"] == row["seconds_to_target"] == row["test"] == ""
    assert float(row["training_seconds"]) == 4.0
    (row,) = [r for r in rows if r["reason"].startswith("RuntimeError") and r["study"] == "0"]
    assert row["reason"] == " ".join(ODD.split())


def test_the_page_is_one_file_that_loads_nothing(tmp_path):
    report(RUN, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("results.md", "results.csv", "report.html")
    }
    page = read(tmp_path, "report.html")
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<script|<link|<img|@import|\bsrc=", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg ") == 4


def test_the_page_is_balanced_and_its_ids_are_unique_and_all_found(tmp_path):
    report(RUN, tmp_path)
    page = read(tmp_path, "report.html")
    checker = Balanced()
    checker.feed(page)
    assert checker.open == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)) != set()
    for pair in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page):
        assert "".join(pair) in ids
    for svg in re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_page_shows_the_scores_and_shades_cells_by_credit(tmp_path):
    report(RUN, tmp_path)
    page = read(tmp_path, "report.html")
    assert '<td class="best" style="--credit:1.000">0.80</td>' in page
    assert '<td style="--credit:0.917">1.00</td>' in page
    assert "<td>(2.10) 2/3</td>" in page
    assert '<tr class="own"><th scope="row" class="left">' in page
    assert "What this can tell" in page


def test_the_same_records_give_the_same_bytes_in_any_order(tmp_path):
    for name, records in (("one", RUN), ("two", RUN[::-1])):
        (tmp_path / name).mkdir()
        report(records, tmp_path / name)
    for name in ("results.md", "results.csv", "report.html"):
        assert read(tmp_path / "one", name) == read(tmp_path / "two", name)


def test_trials_that_ended_before_any_evaluation_are_reported(tmp_path, capsys):
    killed = [
        trial(reason="killed by signal 9 (out of memory?)")
        | {"curve": [], "best_validation": None, "final_validation": None, "steps": 0}
    ]
    report(killed, tmp_path)
    assert "killed by signal 9 (out of memory?)" in capsys.readouterr().out
    assert row_of(read(tmp_path, "results.md").split("## Steps")[1], "mine")[1:] == [
        *("0.000", "0.00-0.00", "0/1", "failed")
    ]


def test_a_run_that_hits_everything_has_no_table_of_troubles(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(baselines, "read", list)
    report(studies("ctr_dlrm", "mine", 800, 850, 750), tmp_path)
    assert "Where methods missed" not in capsys.readouterr().out
    assert "Every trial reached its target." in read(tmp_path, "results.md")


def test_a_cell_says_failed_only_if_no_study_ended_with_its_budget(tmp_path):
    broken = [trial(study=study, reason="OSError") for study in range(2)]
    report([*broken, trial(study=2)], tmp_path)
    assert row_of(read(tmp_path, "results.md").split("## Steps")[1], "mine")[-1] == "miss"
    report([*broken, trial(study=2, reason="OSError")], tmp_path)
    assert row_of(read(tmp_path, "results.md").split("## Steps")[1], "mine")[-1] == "failed"


def test_a_study_that_was_not_run_has_not_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "read", list)
    report([trial(study=1), trial("image_vit", study=0, hit=500)], tmp_path)
    row = row_of(read(tmp_path, "results.md").split("## Steps")[1], "mine")
    assert row[-2:] == ["miss", "miss 1/2"]


def test_a_method_that_ran_a_part_of_the_plan_is_shown_without_a_score(tmp_path, capsys):
    part = studies("ctr_dlrm", "part", 400, 400)
    report([*RUN, *part], tmp_path)
    text = capsys.readouterr().out
    table = read(tmp_path, "results.md").split("## Steps")[1]
    assert row_of(table, "part") == ["**part**", *"----", "0.40 2/3", "none", "none"]
    assert row_of(table, "mine")[4:6] == ["2/3", "**0.80**"]  # it is still the fastest of its pool
    assert "Without a score: ran only a part of the plan." in table
    told = "part lacks 7 of 9 trials, and is not ranked (on ctr_dlrm, image_vit, translation"
    assert told in " ".join(text.split())
    assert "part is " not in text
    assert "| **part** | ctr_dlrm | not run | 2 |" in read(tmp_path, "results.md")
    rows = list(csv.DictReader(read(tmp_path, "results.csv").splitlines(keepends=True)))
    assert sum(row["method"] == "part" for row in rows) == 2


def test_the_title_says_what_ran():
    suites = {"pocket": ["a", "b"], "wide": ["c", "d"], "all": ["a", "b", "c", "d"]}
    titles = {
        ("b", "a"): "the 2 workloads of the pocket suite",
        ("c", "d"): "the 2 workloads of the wide suite",
        ("a", "b", "c", "d"): "the 4 workloads of both suites",
        ("a", "b", "c"): "3 workloads",
        ("own",): "own",
    }
    for names, what in titles.items():
        assert title(names, suites) == f"selftune: {what}, one configuration each"


def test_a_target_from_a_smaller_search_is_told(tmp_path, capsys):
    few = "4 configurations and 1 seed"
    report([record | {"target_from": few} for record in RUN[:3]], tmp_path)
    told = f"Note: the target of ctr_dlrm comes from a search of {few} only."
    assert told in " ".join(capsys.readouterr().out.split())
    assert told in read(tmp_path, "results.md")


def test_a_long_reason_is_cut_in_tables_and_whole_in_the_csv(tmp_path, capsys):
    report([trial(reason=f"RuntimeError: {'long ' * 100}end")], tmp_path)
    assert "long..." in capsys.readouterr().out.replace("long ...", "long...")
    assert "long end" not in read(tmp_path, "results.md")
    assert "long end" in read(tmp_path, "results.csv")


def test_no_record_is_no_report(tmp_path, capsys):
    report([], tmp_path)
    assert capsys.readouterr().out == "no finished trial: nothing to report\n"
    assert list(tmp_path.iterdir()) == []


class Balanced(HTMLParser):
    """Collects the tags that are opened and not closed."""

    VOID = ("meta", "wbr", "br")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


HOSTILE = [
    "../../P",
    "/etc/passwd",
    "=HYPERLINK(1)",
    "<script>alert(1)</script>",
    "a|b*c`d[e](f)",
    "_hidden_",
    "$x_$ and $",
    "nul\0bell\x07esc\x1b[31m",
    "lone \ud800 surrogate",
    "right\u202eto left",
    "long " * 1000,
    "two\nlines",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report of a run whose records hold what nobody would write, and what it printed."""
    folder = tmp_path_factory.mktemp("hostile")
    run = [
        trial("ctr_dlrm", name, hit=800 + place, configuration=name, versions={"torch": name})
        for place, name in enumerate(HOSTILE)
    ]
    run += [trial("image_vit", name, reason=name) for name in HOSTILE]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eval.workloads, "SUITES", SUITES)
        patch.setattr(baselines, "read", lambda: RECORDED)
        printed = io.StringIO()
        with redirect_stdout(printed):
            report(run, folder, command="=cmd")
    return folder, printed.getvalue()


def test_texts_from_records_cannot_control_a_terminal_or_break_a_file(hostile):
    folder, printed = hostile
    for text in (printed, *(read(folder, path.name) for path in folder.iterdir())):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\ud800]", text)
        assert max(map(len, re.findall(r"(?:long )+", text))) < 2100


def test_texts_from_records_are_texts_in_html_and_markdown(hostile):
    folder, _ = hostile
    page, markdown = read(folder, "report.html"), read(folder, "results.md")
    assert "<script" not in page
    assert "<script" not in markdown
    assert "a&#124;b&#42;c&#96;d&#91;e&#93;(f)" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in rows if "0.00-" in line}) == 1
    Balanced().feed(page)


def test_no_cell_of_the_csv_is_a_formula(hostile):
    folder, _ = hostile
    rows = list(csv.reader(io.StringIO(read(folder, "results.csv"))))
    assert not [cell for row in rows for cell in row if re.match(r"[=+@\t\r]|-\D", cell)]
    assert "'=HYPERLINK(1)" in {row[1] for row in rows}
    assert {row[rows[0].index("command")] for row in rows[1:]} == {"'=cmd"}


def test_every_method_is_in_the_legend_by_its_own_name(hostile):
    folder, _ = hostile
    page = read(folder, "report.html")
    for curves in re.findall(r"<svg.*?</svg>", page, re.DOTALL)[:1]:
        assert "_hidden_" in curves
        assert "$x_$ and $" in curves


def test_a_report_writes_nothing_outside_of_its_folder(hostile):
    folder, _ = hostile
    assert {path.name for path in folder.iterdir()} == {"results.md", "results.csv", "report.html"}
    assert not (folder.parent.parent / "P").exists()


def test_every_output_has_what_a_citation_needs(tmp_path):
    report(RUN, tmp_path, command="python -m eval.self_tuning --method 'mine.py:a b'")
    row, *_ = csv.DictReader(read(tmp_path, "results.csv").splitlines())
    assert row["command"] == "python -m eval.self_tuning --method 'mine.py:a b'"
    assert float(row["score_low"]) <= float(row["score"]) <= float(row["score_high"])
    assert (row["python"], row["torch"], row["selftune"]) == ("3.12", "2.13.0", "0.1.0")
    assert row["studies"] == "3"
    assert "budget 3 x step_hint" in row["rules"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"])
    for text in (read(tmp_path, "results.md"), unescape(read(tmp_path, "report.html"))):
        assert "Command: python -m eval.self_tuning --method 'mine.py:a b'" in text
        assert f"Date: {row['date']}" in text
        assert "Seed: 0" in text
        assert "Studies: 3" in text
        assert "Torch: 2.13.0" in text
        assert "Selftune: 0.1.0" in text
        assert "95 % interval" in text


def test_files_are_written_before_anything_is_printed(tmp_path, monkeypatch):
    def broken(*texts, **options):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", broken)
    with pytest.raises(BrokenPipeError):
        report(RUN, tmp_path)
    assert "</html>" in read(tmp_path, "report.html")


def test_a_disk_that_fills_leaves_the_last_report_as_it_was(tmp_path, monkeypatch):
    report(RUN, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report(RUN[:3], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_trials_of_several_versions_in_one_file_are_told(tmp_path, capsys):
    other = {"torch": "2.6.0", "selftune": "0.0.9", "device": "cuda"}
    report([*RUN[:-1], trial(**TOLD, versions=other)], tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "this run's trials were not made with one torch: 2.13.0 (8 trials), 2.6.0 (1" in said
    assert "not made with one selftune: 0.0.9 (1 trials), 0.1.0 (8 trials)" in said
    assert "not made with one device: cpu (8 trials), cuda (1 trials)" in said


def test_trials_under_other_rules_in_one_file_are_left_out_and_told(tmp_path, capsys):
    report([*RUN[:-1], trial(**TOLD, budget=1.5)], tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "mine on translation_transformer in study 2 is left out: its budget is 1.5, that of "
        "others 3.0" in said
    )


def test_trials_without_a_target_are_not_scored(tmp_path, capsys):
    report([trial() | {"rules": trial()["rules"] | {"target": None}}], tmp_path)
    assert "nothing to report" in capsys.readouterr().out
