"""Phone recognition: the data, loss and metric that both speech workloads share."""

from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..data import read
from ..workload import Arrays, Batch, Metric, Splits

METRIC = Metric("phone error rate", higher_is_better=False)
NUM_MELS = 32
NUM_CLASSES = 51  # 50 phones and the blank
BLANK = 0

LENGTH_NOISE = 15  # frames: largest random number added to lengths when sorting into batches
MEL_STRIPES, WIDEST_MEL_STRIPE = 2, 4  # SpecAugment: number, and width in mels
TIME_STRIPES, WIDEST_TIME_STRIPE = 2, 0.05  # SpecAugment: number, and width as share of a segment
EVALUATION_BATCH = 64


def load() -> Splits:
    """Standardised log-mel frames, padded with 0 (the mean), and phones, padded with BLANK.

    frames (segments, time, mels), frame_counts (segments,), phones (segments, longest),
    phone_counts (segments,). Segments are sorted from the shortest to the longest.
    """
    arrays = read("speech")
    frame_counts, phone_counts, phones = (
        torch.from_numpy(arrays[name].astype(np.int64))
        for name in ("frame_counts", "phone_counts", "phones")
    )
    part = torch.from_numpy(arrays["splits"])
    frames = torch.from_numpy(arrays["frames"]).float()  # (all frames, mels)
    trained_on = frames[part.repeat_interleave(frame_counts) == 0]
    frames = (frames - trained_on.mean(0)) / trained_on.std(0)
    columns = {
        "frames": _padded(frames, frame_counts),
        "frame_counts": frame_counts,
        "phones": _padded(phones, phone_counts),
        "phone_counts": phone_counts,
    }
    order = frame_counts.argsort(stable=True)

    def split(number: int) -> Arrays:
        members = order[part[order] == number]
        return {name: column[members] for name, column in columns.items()}

    return Splits(train=split(0), validation=split(1), test=split(2))


def _padded(rows: Tensor, counts: Tensor) -> Tensor:
    """The segments (segments, longest, ...), padded with 0. rows: (all rows, ...)."""
    return pad_sequence(list(rows.split(counts.tolist())), batch_first=True)


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(frames, frame_counts, phones, phone_counts) of segments of similar length."""
    lengths = train["frame_counts"].cpu()
    num_batches = len(lengths) // batch_size
    while True:
        members = torch.randperm(len(lengths), generator=generator)[: num_batches * batch_size]
        noise = LENGTH_NOISE * torch.rand(len(members), generator=generator)
        members = members[(lengths[members] + noise).argsort()]
        batches = rearrange(members, "(batch member) -> batch member", member=batch_size)
        for batch in batches[torch.randperm(num_batches, generator=generator)]:
            frames, frame_counts, *labels = _cropped(train, batch)
            yield spec_augment(frames, frame_counts, generator), frame_counts, *labels


def _cropped(split: Arrays, members: Tensor) -> Batch:
    """The segments of `members`, padded to the longest of them."""
    frames, frame_counts, phones, phone_counts = (
        split[name][members.to(split[name].device)]
        for name in ("frames", "frame_counts", "phones", "phone_counts")
    )
    longest, most = int(frame_counts.max()), int(phone_counts.max())
    return frames[:, :longest], frame_counts, phones[:, :most], phone_counts


def spec_augment(frames: Tensor, frame_counts: Tensor, generator: Generator) -> Tensor:
    """The frames with random stripes of time and of mels set to 0, the mean.

    Park et al., SpecAugment, 2019. https://arxiv.org/abs/1904.08779
    """
    counts = rearrange(frame_counts.cpu(), "batch -> batch 1")
    mels = torch.full_like(counts, frames.shape[2])
    widest = (WIDEST_TIME_STRIPE * counts).floor()
    in_time = _stripes(TIME_STRIPES, widest, counts, frames.shape[1], generator)
    in_mels = _stripes(
        MEL_STRIPES, torch.full_like(widest, WIDEST_MEL_STRIPE), mels, frames.shape[2], generator
    )
    masked = rearrange(in_time, "b t -> b t 1") | rearrange(in_mels, "b m -> b 1 m")
    return frames.masked_fill(masked.to(frames.device), 0.0)


def _stripes(
    number: int, widest: Tensor, counts: Tensor, length: int, generator: Generator
) -> Tensor:
    """(batch, length): True in `number` random stripes of each row.

    A stripe is 0 to `widest` wide and lies within the first `counts` positions of its row.
    """
    shape = (len(counts), number)
    width = (torch.rand(shape, generator=generator) * (widest + 1)).floor()
    start = (torch.rand(shape, generator=generator) * (counts - width + 1)).floor()
    place = torch.arange(length)
    start, width = (rearrange(one, "batch stripe -> batch stripe 1") for one in (start, width))
    return reduce((place >= start) & (place < start + width), "b stripe t -> b t", torch.any)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """CTC negative log-likelihood per phone: the batch's sum divided by its number of phones."""
    frames, frame_counts, phones, phone_counts = batch
    logits, counts = model(frames, frame_counts)  # (batch, time, classes), (batch,)
    log_probs = rearrange(logits.log_softmax(-1), "batch time classes -> time batch classes")
    total = F.ctc_loss(
        log_probs, phones, counts, phone_counts, BLANK, reduction="sum", zero_infinity=True
    )
    return total / phone_counts.sum()


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Phone error rate of greedy decoding: insertions, deletions and substitutions per phone."""
    from rapidfuzz.distance import Levenshtein  # imported here to start commands faster

    errors = 0
    for members in torch.arange(len(split["frame_counts"])).split(EVALUATION_BATCH):
        frames, frame_counts, phones, phone_counts = _cropped(split, members)
        decoded = greedy_decode(*model(frames, frame_counts))
        references = zip(phones.tolist(), phone_counts.tolist(), strict=True)
        for hypothesis, (reference, count) in zip(decoded, references, strict=True):
            errors += Levenshtein.distance(hypothesis, reference[:count])
    return errors / split["phone_counts"].sum().item()


def greedy_decode(logits: Tensor, counts: Tensor) -> list[list[int]]:
    """The most likely class of every frame, with repetitions merged and blanks removed."""
    best = logits.argmax(-1)  # (batch, time)
    best = best.where(frame_mask(counts, best.shape[1]), BLANK)
    previous = F.pad(best, (1, 0), value=BLANK)[:, :-1]
    kept = (best != BLANK) & (best != previous)
    return [row[keep].tolist() for row, keep in zip(best, kept, strict=True)]


def frame_mask(counts: Tensor, length: int) -> Tensor:
    """(batch, length): True for frames, False for padding."""
    return torch.arange(length, device=counts.device) < rearrange(counts, "batch -> batch 1")
