"""Generation of submission folders: `python -m eval.algoperf.generate --method all --out FOLDER`.

A folder is self-contained: it has the method, the adapter and the library, and the files that
AlgoPerf's checker and leaderboard require: submission_info.yml, requirements.txt, LICENSE.
"""

import filecmp
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import selftune

from .. import methods
from ..cli import DONE, Parser, fraction, run
from ..methods import METHODS, Method
from ..user_code import Reference
from ..user_methods import chosen_methods

RULESET = "self_tuning"  # the folder that the checker expects
REPOSITORY = Path(__file__).parents[2]
ADAPTER = ("adapter.py", "all_gpus.py", "method_state.py", "batch_sizes.py", "expected.py")
FUNCTIONS = (
    "get_batch_size",
    "init_optimizer_state",
    "update_params",
    "prepare_for_eval",
    "data_selection",
)
SUBMISSION = '''"""{summary}

Written by `python -m eval.algoperf.generate` of selftune {version}; adapter.py says what it does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "library"))

from .adapter import Submission  # noqa: E402
from .{module} import {imported}  # noqa: E402

_submission = Submission({build}, dropout_rate={dropout_rate}, label_smoothing={label_smoothing})
'''


@dataclass(frozen=True)
class Entry:
    """A submission's metadata, and its dropout rate and label smoothing for all workloads."""

    authors: str = "selftune contributors"
    affiliations: str = ""
    dropout_rate: float | None = None  # for all workloads; None: each workload's own
    label_smoothing: float = 0.0


def generate(method: Method, out: Path, entry: Entry = Entry()) -> Path:
    """Write out/self_tuning/<method>; returns that folder.

    An equal folder that exists is kept. Raises ValueError if a different one exists.
    """
    folder = out / RULESET / method.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as new:
        written = Path(new) / method.name
        _write(method, written, entry)
        if not folder.exists():
            written.rename(folder)
        elif not _same(written, folder):
            raise ValueError(
                f"{folder} holds another submission; remove it or choose another --out"
            )
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("eval.algoperf.generate", "Write AlgoPerf submission folders.")
    parser.add_argument(
        "--method", default="all", help="a,b or all; your own as path/to/file.py:function"
    )
    parser.add_argument("--out", type=Path, default=Path("submissions"), help="a folder")
    parser.add_argument("--authors", default=Entry.authors, help="separated by commas")
    parser.add_argument("--affiliations", default=Entry.affiliations, help="separated by commas")
    parser.add_argument("--dropout-rate", type=fraction, help="of all workloads; v0.6 only")
    parser.add_argument("--label-smoothing", type=fraction, default=0.0, help="of all workloads")
    options = parser.parse_args(arguments)
    entry = Entry(
        options.authors, options.affiliations, options.dropout_rate, options.label_smoothing
    )
    try:
        for method in chosen_methods(options.method, METHODS):
            print(generate(method, options.out, entry))
    except (ValueError, OSError) as error:
        parser.refuse(error)
    return DONE


def _write(method: Method, folder: Path, entry: Entry) -> None:
    shutil.copytree(
        Path(selftune.__file__).parent,
        folder / "library" / "selftune",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ADAPTER:
        shutil.copy(Path(__file__).parent / "submission" / name, folder)
    shutil.copy(REPOSITORY / "LICENSE", folder)
    if isinstance(method.build, Reference):
        # A user's file: other files in its folder are not copied.
        source, module = method.build.source, "method"
        imported = build = method.build.name
    else:
        source, module = Path(methods.__file__).parent, "methods"
        imported, build = "METHODS", f'METHODS["{method.name}"].build'
    if source.is_dir():
        shutil.copytree(source, folder / module, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, folder / f"{module}.py")
    functions = "".join(f"{name} = _submission.{name}\n" for name in FUNCTIONS)
    submission = SUBMISSION.format(
        summary=f"{method.name}: {method.summary}.",
        version=version("selftune"),
        module=module,
        imported=imported,
        build=build,
        dropout_rate=entry.dropout_rate,
        label_smoothing=entry.label_smoothing,
    )
    texts = {
        "__init__.py": "",
        "submission.py": submission + functions,
        "submission_info.yml": _info(method, entry),
        # AlgoPerf provides torch; a submission may not install another version.
        "requirements.txt": "numpy\nscipy\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _info(method: Method, entry: Entry) -> str:
    """The leaderboard's metadata as YAML, whose strings may be written as in JSON."""
    about = {
        "submission_name": method.name,
        "submission_folder": f"submissions/{RULESET}/{method.name}",
        "authors": entry.authors,
        "affiliations": entry.affiliations,
        "version": version("selftune"),
        "ruleset": "self-tuning",
        "framework": "PyTorch",
        "description": f"{method.summary}; weight decay: {method.weight_decay}",
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in about.items())


def _same(left: Path, right: Path) -> bool:
    """Whether two folders have the same files, apart from those that running creates."""
    names = [_files(left), _files(right)]
    return names[0] == names[1] and all(
        filecmp.cmp(left / name, right / name, shallow=False) for name in names[0]
    )


def _files(folder: Path) -> set[Path]:
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


if __name__ == "__main__":
    run(main)
