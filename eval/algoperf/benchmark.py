"""AlgoPerf's workloads and rules, version by version.

Targets, budgets and step hints are the properties that mlcommons/algorithmic-efficiency defines
in algoperf/workloads/*/workload.py (v0.5: the tag v0.5.0; v0.6: commit 2c90454f) and that its runs
log in meta_data_0.json; those of 2026 are from the logs of the branch a100_scoring of
mlcommons/submissions_algorithms. The sampled held-out workloads are that repository's
scoring/algoperf_v05/held_out_workloads_algoperf_v05.json.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..cli import one
from ..results import Record
from ..workload import Metric

Ruleset = Literal["self-tuning", "external tuning"]


@dataclass(frozen=True)
class OfficialWorkload:
    """One workload of one version."""

    name: str
    dataset: str  # the folder of its data
    metric: Metric  # `validation/<name>` in the logs
    target: float  # on the validation split
    test_target: float | None  # not scored, but a run continues until it is reached
    runtime: float  # seconds of the external-tuning ruleset
    step_hint: int
    base: str  # of a held-out workload, the one it varies; else its own name


@dataclass(frozen=True)
class Rules:
    """One version of the benchmark."""

    name: str
    budget: float  # of the self-tuning ruleset, in multiples of a workload's runtime
    studies: int  # a score is the median over them
    workloads: Mapping[str, OfficialWorkload]  # the scored ones
    held_out: Mapping[str, OfficialWorkload]  # missing one of them loses its base
    hardware: str  # on which scores were measured
    gpus: int
    gpu: str  # part of the name that such a GPU reports

    @property
    def all_workloads(self) -> dict[str, OfficialWorkload]:
        return {**self.workloads, **self.held_out}

    def seconds(self, workload: str, ruleset: Ruleset = "self-tuning") -> float:
        """The budget of a run."""
        multiple = self.budget if ruleset == "self-tuning" else 1.0
        return multiple * self.all_workloads[workload].runtime


LOSS = Metric("loss", higher_is_better=False)
SSIM = Metric("ssim", higher_is_better=True)
ACCURACY = Metric("accuracy", higher_is_better=True)
WER = Metric("wer", higher_is_better=False)
MAP = Metric("mean_average_precision", higher_is_better=True)
BLEU = Metric("bleu", higher_is_better=True)
PPL = Metric("ppl", higher_is_better=False)

# name, dataset, metric, target, test target
_BASE = (
    ("criteo1tb", "criteo1tb", LOSS, 0.123735, 0.126041),
    ("fastmri", "fastmri", SSIM, 0.723653, 0.740633),
    ("imagenet_resnet", "imagenet", ACCURACY, 0.77431, 0.656),
    ("imagenet_vit", "imagenet", ACCURACY, 0.77309, 0.6519),
    ("librispeech_conformer", "librispeech", WER, 0.085884, 0.052981),
    ("librispeech_deepspeech", "librispeech", WER, 0.119936, 0.074143),
    ("ogbg", "ogbg", MAP, 0.28098, 0.268729),
    ("wmt", "wmt", BLEU, 30.8491, 30.7219),
)
# base, name, target, test target. The published v0.5 runs used the target of wmt_glu_tanh that
# the code had after the tag v0.5.0 (29.6517 there).
_HELD_OUT = (
    ("criteo1tb", "criteo1tb_embed_init", 0.129657, 0.131967),
    ("fastmri", "fastmri_tanh", 0.71784, 0.734505),
    ("imagenet_resnet", "imagenet_resnet_large_bn_init", 0.76526, 0.6423),
    ("librispeech_conformer", "librispeech_conformer_layernorm", 0.09731, 0.05996),
    ("ogbg", "ogbg_model_size", 0.269446, 0.253051),
    ("wmt", "wmt_glu_tanh", 29.5779, 29.0515),
)
# (runtime, step hint), in the order of _BASE
_V05 = (
    *((7703, 10666), (8859, 36189), (63008, 186666), (77520, 186666)),
    *((61068, 80000), (55506, 48000), (18477, 80000), (48151, 133333)),
)
_V06 = (
    *((7703, 10666), (4430, 18094), (66159, 195999), (69768, 167999)),
    *((58015, 76000), (44405, 38400), (12011, 52000), (43336, 120000)),
)
_A100_SECONDS = (8915, 2745, 49918, 64292, 43680, 36949, 11303, 16114)


def _workloads(limits: tuple[tuple[int, int], ...]) -> dict[str, OfficialWorkload]:
    return {
        row[0]: OfficialWorkload(*row, runtime, step_hint, base=row[0])
        for row, (runtime, step_hint) in zip(_BASE, limits, strict=True)
    }


def _variants(bases: Mapping[str, OfficialWorkload]) -> dict[str, OfficialWorkload]:
    return {
        name: replace(bases[base], name=name, target=target, test_target=test_target)
        for base, name, target, test_target in _HELD_OUT
    }


_LM = OfficialWorkload(
    *("finewebedu_lm", "finewebedu", PPL, 22.2995, None, 31967, 72000), base="finewebedu_lm"
)
_V05_WORKLOADS = _workloads(_V05)
_A100_LIMITS = tuple(zip(_A100_SECONDS, (hint for _, hint in _V06), strict=True))

V05 = Rules(
    "v0.5", 3.0, 5, _V05_WORKLOADS, _variants(_V05_WORKLOADS), "8x V100 16 GB", gpus=8, gpu="V100"
)
V06 = Rules("v0.6", 1.5, 3, _workloads(_V06), {}, "8x V100 16 GB", gpus=8, gpu="V100-SXM2-16GB")
A100 = Rules(
    name="v0.6-a100",
    budget=1.5,
    studies=3,
    workloads={**_workloads(_A100_LIMITS), "finewebedu_lm": _LM},
    held_out={},
    hardware="4x A100 40 GB",
    gpus=4,
    gpu="A100-SXM4-40GB",
)
# The runner's own small workload, which is not scored and runs on a CPU.
MNIST = OfficialWorkload("mnist", "mnist", ACCURACY, 0.97, 0.97, 60, 7813, base="mnist")
VERSIONS = {rules.name: rules for rules in (V05, V06, A100)}


def version(name: str) -> Rules:
    """The rules of a version. Raises ValueError for an unknown one."""
    return one(name, VERSIONS, "rules")


def counted(trials: Iterable[Record], rules: Rules) -> Record:
    """The trial of a study that counts.

    v0.5's code takes the one that reaches the target with the fewest evaluations, the first of
    equal ones; v0.6's published scores are reproduced by the one that takes the fewest seconds.
    """
    trials = list(trials)
    hits = [trial for trial in trials if trial["outcome"] == "hit"]
    if not hits:
        return trials[0]
    if rules is V05:
        return min(hits, key=lambda trial: trial["eval_index"])
    return min(hits, key=lambda trial: trial["seconds"]["to_target"])


def relaxed(target: float, metric: Metric, relaxation: float) -> float:
    """A target made easier by a fraction of itself, as the official code relaxes it."""
    return target * (1 - relaxation if metric.higher_is_better else 1 + relaxation)


def rules_of(workload: OfficialWorkload, rules: Rules, ruleset: Ruleset) -> Record:
    """The rules that a record of this workload and version contains."""
    return {
        "budget": rules.budget if ruleset == "self-tuning" else 1.0,
        "seed": None,
        "step_hint": workload.step_hint,
        "seconds_hint": workload.runtime,
        "target": workload.target,
        "metric": workload.metric.name,
        "higher_is_better": workload.metric.higher_is_better,
        "data": workload.dataset,
    }
