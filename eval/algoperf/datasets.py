"""The places where the official runner looks for data, and the files that must be there.

The layouts are those of datasets/README.md in mlcommons/algorithmic-efficiency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other")
IMAGENET_V2 = "imagenet_v2/matched-frequency/3.0.0/dataset_info.json"


@dataclass(frozen=True)
class Dataset:
    folder: str  # below the folder of all data
    patterns: tuple[str, ...]  # each names at least one file
    size: str  # on the disk
    setup: str  # the flag of datasets/dataset_setup.py that creates it; empty if none is needed

    def missing(self, data: Path) -> list[str]:
        """The missing files, as paths or patterns."""
        place = data / self.folder
        absent = [str(place / p) for p in self.patterns if next(place.glob(p), None) is None]
        if self.folder == "imagenet/pytorch" and imagenet_v2(data) is None:
            absent.append(str(data / IMAGENET_V2))
        return absent

    def flags(self, data: Path) -> list[str]:
        """The runner's flags for this data set, with absolute paths."""
        place = data.resolve() / self.folder
        flags = [f"--data_dir={place}"]
        if self.folder == "imagenet/pytorch":
            flags.append(f"--imagenet_v2_data_dir={imagenet_v2(data.resolve()) or place}")
        if self.folder == "librispeech":
            flags.append(f"--librispeech_tokenizer_vocab_path={place / 'spm_model.vocab'}")
        return flags


DATASETS = {
    "criteo1tb": Dataset(
        "criteo1tb", ("day_0_*", "day_22_*", "day_23_00"), "1.1 TB", "--criteo1tb"
    ),
    "fastmri": Dataset(
        "fastmri", ("knee_singlecoil_train/*.h5", "knee_singlecoil_val/*.h5"), "113 GB", "--fastmri"
    ),
    "finewebedu": Dataset("finewebedu", ("train/*", "val/*"), "10 billion tokens", "--finewebedu"),
    "imagenet": Dataset(
        "imagenet/pytorch",
        ("train/*/*.JPEG", "val/*/*.JPEG"),
        "145 GB",
        "--imagenet --framework pytorch",
    ),
    "librispeech": Dataset(
        "librispeech",
        ("spm_model.vocab", "test-clean.csv", *(f"{split}.csv" for split in SPLITS)),
        "387 GB",
        "--librispeech",
    ),
    "ogbg": Dataset("ogbg", ("ogbg_molpcba/0.1.3/dataset_info.json",), "830 MB", "--ogbg"),
    "wmt": Dataset(
        "wmt",
        (
            "wmt14_translate/de-en/1.0.0/dataset_info.json",
            "wmt17_translate/de-en/1.0.0/dataset_info.json",
            "wmt_sentencepiece_model",
        ),
        "3.3 GB",
        "--wmt",
    ),
    "mnist": Dataset("mnist", (), "20 MB", ""),  # the runner downloads it
}


def imagenet_v2(data: Path) -> Path | None:
    """The folder of ImageNet v2, which differs between the runner's README and its script."""
    for folder in (data / "imagenet" / "pytorch", data):
        if (folder / IMAGENET_V2).is_file():
            return folder
    return None


def problems(names: Sequence[str], data: Path) -> list[str]:
    """One line for each incomplete data set."""
    lines = []
    for name in dict.fromkeys(names):
        dataset = DATASETS[name]
        absent = dataset.missing(data)
        if absent:
            lines.append(
                f"{name} ({dataset.size}) is not in {data}: no {', '.join(absent)}; in AlgoPerf's "
                f"folder: python datasets/dataset_setup.py --data_dir {data} --temp_dir "
                f"{data}/tmp {dataset.setup}"
            )
    return lines
