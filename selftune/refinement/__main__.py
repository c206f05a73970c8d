"""`python -m selftune.schedules refine norms.csv`: a schedule for people who only have a log."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from selftune.refinement.decoupling import MODES
from selftune.refinement.norm_log import NormLog
from selftune.refinement.refine import KINDS, refine


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 and one line on stderr where it cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        log = NormLog.load(options.log, dict(options.column), dict(options.where))
        if options.weight_decay is not None:
            log = replace(log, weight_decay=options.weight_decay)
        refined = refine(
            log,
            options.total_steps,
            options.kind,
            options.smoothing,
            options.decouple,
            options.warmup,
        )
        if options.out:
            Path(options.out).write_text(refined.to_json() + "\n")
        if options.png:
            from selftune.refinement.picture import picture

            picture(refined).savefig(options.png, dpi=150)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{refined.total_steps} steps\n{refined.diagnostics}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m selftune.schedules")
    command = parser.add_subparsers(required=True).add_parser(
        "refine", help="the schedule that is best for the gradient norms of an earlier run"
    )
    command.add_argument("log", help="CSV table with a header and gradient norms; .gz is read too")
    command.add_argument("--out", metavar="JSON", help="write the schedule, for Schedule.from_json")
    command.add_argument("--png", metavar="PNG", help="draw norms and schedule; needs matplotlib")
    command.add_argument("--total-steps", type=int, help="of the schedule; default: of the log")
    command.add_argument("--kind", choices=("auto", *KINDS), default="auto", help="see refine()")
    command.add_argument("--smoothing", type=float, default=0.1, help="fraction of the run; 0.1")
    command.add_argument("--decouple", choices=MODES, default="auto", help="see refine()")
    command.add_argument(
        "--warmup", type=_length, default=0, help="steps, or a fraction of the run; see refine()"
    )
    command.add_argument("--weight-decay", type=float, help="of the run, if the table has none")
    command.add_argument(
        "--column",
        metavar="THEIRS=OURS",
        type=_pair,
        action="append",
        default=[],
        help="what a column is: step, lr, l2, l1, update, weight, ...",
    )
    command.add_argument(
        "--where",
        metavar="COLUMN=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="one run of a table of many",
    )
    return parser


def _length(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
