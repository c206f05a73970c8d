"""The command `python -m selftune.schedules refine norms.csv`: a refined schedule from a log."""

from __future__ import annotations

import argparse
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

from selftune.refinement.decoupling import MODES
from selftune.refinement.log_files import open_table
from selftune.refinement.norm_log import NormLog
from selftune.refinement.refine import KINDS, refine


def main(arguments: list[str] | None = None, prog: str = "python -m selftune.schedules") -> int:
    """Run the command. Returns 0, or 1 after printing an error to stderr in one line.

    prog: by which the command was called, for its help.
    """
    options = _parser(prog).parse_args(arguments)
    try:
        refined = refine(
            _log(options),
            options.total_steps,
            options.kind,
            options.smoothing,
            options.decouple,
            options.warmup,
        )
        if options.out:
            _write(options.out, (refined.to_json() + "\n").encode())
        if options.png:
            from selftune.refinement.picture import picture

            drawing, form = io.BytesIO(), Path(options.png).suffix[1:]
            picture(refined).savefig(drawing, format=form or "png", dpi=150)
            _write(options.png, drawing.getvalue())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return _say(f"{refined.total_steps} steps; {refined.diagnostics}")


def _log(options: argparse.Namespace) -> NormLog:
    where = dict(_where(options.log, text) for text in options.where)
    log = NormLog.load(options.log, dict(options.column), where)
    if options.optimizer:
        log = replace(log, optimizer=options.optimizer)
    if options.clip is not None:
        log = log.clipped(options.clip)
    if options.weight_decay is None:
        return log
    log = replace(log, weight_decay=options.weight_decay)
    if log.weight_decay and log.lrs is None and "weight" not in log.norms:
        raise ValueError(
            f"{options.log} has neither learning rates nor weight norms under a usual name, and "
            "--weight-decay has no effect without: say which column has them, --column THEIRS=lr"
        )
    return log


def _write(path: str, content: bytes) -> None:
    """Write to a file beside the target and then rename it, so that a failure keeps the old one."""
    target = Path(path)
    if target.exists() and not target.is_file():  # a device or a pipe
        target.write_bytes(content)
        return
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _say(text: str) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # a column's name may not fit the encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog)
    command = parser.add_subparsers(required=True).add_parser(
        "refine", help="the schedule that is best for the gradient norms of an earlier run"
    )
    command.add_argument("log", help="table with gradient norms: CSV, JSON, JSON lines; .gz too")
    command.add_argument("--out", metavar="JSON", help="write the schedule, for Schedule.from_json")
    command.add_argument("--png", metavar="PNG", help="draw norms and schedule; needs matplotlib")
    command.add_argument("--total-steps", type=int, help="of the schedule; default: of the log")
    command.add_argument("--kind", choices=("auto", *KINDS), default="auto", help="see refine()")
    command.add_argument(
        "--optimizer", metavar="NAME", help="of the run, if the log has none; else AdamW is assumed"
    )
    command.add_argument("--smoothing", type=float, default=0.1, help="fraction of the run; 0.1")
    command.add_argument("--decouple", choices=MODES, default="auto", help="see refine()")
    command.add_argument(
        "--warmup", type=_length, default=0, help="steps, or a fraction of the run; see refine()"
    )
    command.add_argument("--weight-decay", type=float, help="of the run, if the table has none")
    command.add_argument(
        "--clip",
        metavar="NORM",
        type=float,
        help="what gradients were clipped to, if norms were logged before that",
    )
    command.add_argument(
        "--column",
        metavar="THEIRS=OURS",
        type=_column,
        action="append",
        default=[],
        help="what a column is: step, lr, l2, l1, update, weight, ...",
    )
    command.add_argument(
        "--where",
        metavar="COLUMN=VALUE",
        action="append",
        default=[],
        help="one run of a table of many",
    )
    return parser


def _length(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def _column(text: str) -> tuple[str, str]:
    name, equals, ours = text.rpartition("=")  # the last one: our names contain no "="
    if not equals:
        raise argparse.ArgumentTypeError(f"expected THEIRS=OURS, got {text!r}")
    return name, ours


def _where(log: str, text: str) -> tuple[str, str]:
    """Split COLUMN=VALUE at the first "=" that follows the name of a column."""
    parts = text.split("=")
    splits = [("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts))]
    if not splits:
        raise ValueError(f"--where takes COLUMN=VALUE, got {text!r}")
    if len(splits) == 1:
        return splits[0]
    header = open_table(log).header
    return next((split for split in splits if split[0] in header), splits[0])


if __name__ == "__main__":
    sys.exit(main(prog="python -m selftune.refinement"))
