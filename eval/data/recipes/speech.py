"""Russian read by one speaker, cut at the pauses: log-mel frames and phone sequences."""

import io
import subprocess
import tarfile
import wave
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from . import Source

SOURCE = Source(
    packages=("apt:festvox-ru=0.5+dfsg-6",),
    licence="BSD-like: notice kept, changes marked, authors named and not used to endorse",
    origin="Voice msu_ru_nsh of the Festival speech synthesis system, Nickolay V. Shmyrev, 2005; "
    "recordings turned into log-mel frames, cut at the labelled pauses, labels without times",
)

VOICE = "./usr/share/festival/voices/russian/msu_ru_nsh_clunits"
SAMPLE_RATE = 16_000  # samples/s
HOP = 320  # samples: 50 frames/s
WINDOW = 400  # samples: 25 ms
FFT_SIZE = 512
NUM_MELS = 32
LOWEST, HIGHEST = 60.0, 7600.0  # Hz
SHORTEST, LONGEST = 15, 150  # frames
FEWEST_PHONES = 3
PAUSE = "pau"
HELD_OUT = 62  # of 620 utterances for validation, and as many for test
SEED = 0


def build(sources: Path) -> dict[str, np.ndarray]:
    """All segments one after the other in `frames` and `phones`, with the length of each.

    frames: decibels relative to one squared unit of the 16-bit samples, rounded. phones: indices
    into `symbols` plus one, so that 0 is free for the CTC blank. splits: all segments of an
    utterance are in the same split.
    """
    segments = _distinct_segments(sources)
    frames, phones, utterances = zip(*segments, strict=True)
    symbols = sorted({phone for sequence in phones for phone in sequence})
    number = {phone: index for index, phone in enumerate(symbols, start=1)}
    shuffled = np.random.default_rng(SEED).permutation(max(utterances) + 1)
    part = np.zeros(len(shuffled), np.uint8)
    part[shuffled[:HELD_OUT]] = 1
    part[shuffled[HELD_OUT : 2 * HELD_OUT]] = 2
    return {
        "frames": np.concatenate(frames),  # (all frames, mels)
        "frame_counts": np.array([len(one) for one in frames], np.uint8),
        "phones": np.array([number[phone] for one in phones for phone in one], np.uint8),
        "phone_counts": np.array([len(one) for one in phones], np.uint8),
        "utterances": np.array(utterances, np.uint16),
        "splits": part[list(utterances)],  # 0 train, 1 validation, 2 test
        "symbols": np.array(symbols),
    }


def _distinct_segments(sources: Path) -> list[tuple[np.ndarray, list[str], int]]:
    """(frames, phones, utterance) of each segment; of those with equal phones only the first."""
    segments = []
    seen = set()
    for utterance, (samples, labels) in enumerate(_utterances(sources)):
        decibels = _log_mel(samples)
        for start, end, phones in _between_pauses(labels):
            frames = decibels[_frame(start) : _frame(end)]
            long_enough = len(phones) >= FEWEST_PHONES and len(frames) >= SHORTEST
            if long_enough and len(frames) <= LONGEST and tuple(phones) not in seen:
                seen.add(tuple(phones))
                segments.append((frames, phones, utterance))
    return segments


def _utterances(sources: Path) -> list[tuple[np.ndarray, str]]:
    """Samples and label file of each recording, sorted by name."""
    (package,) = (sources / "festvox-ru").glob("*.deb")
    unpacked = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        names = sorted(Path(name).stem for name in archive.getnames() if name.endswith(".lab"))
        return [
            (
                _samples(_content(archive, f"{VOICE}/wav/{name}.wav")),
                _content(archive, f"{VOICE}/lab/{name}.lab").decode(),
            )
            for name in names
        ]


def _content(archive: tarfile.TarFile, path: str) -> bytes:
    file = archive.extractfile(path)
    assert file is not None, path
    return file.read()


def _samples(content: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels()) == (SAMPLE_RATE, 1)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def _between_pauses(labels: str) -> list[tuple[float, float, list[str]]]:
    """(start, end, phones) of each segment, in seconds, from lines of `end colour phone`."""
    segments: list[tuple[float, float, list[str]]] = []
    phones: list[str] = []
    start = end = 0.0
    for line in [*labels.splitlines()[1:], f"0 0 {PAUSE}"]:
        time, _, phone = line.split()
        if phone != PAUSE:
            phones.append(phone)
        else:
            if phones:
                segments.append((start, end, phones))
            phones, start = [], float(time)
        end = float(time)
    return segments


def _frame(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / HOP)


def _log_mel(samples: np.ndarray) -> np.ndarray:
    """Decibels (frames, mels); frame k is centred on sample k * HOP."""
    padded = np.pad(samples, WINDOW // 2)
    windows = sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows, FFT_SIZE)) ** 2 / np.sum(np.hanning(WINDOW) ** 2)
    decibels = 10 * np.log10(np.maximum(power @ _mel_filters(), 1.0))
    return np.rint(decibels).astype(np.uint8)


def _mel_filters() -> np.ndarray:
    """Triangular filters (frequencies, mels), evenly spaced in mel = 2595 log10(1 + f / 700).

    Each overlaps half of its neighbours.
    """
    lowest, highest = (2595 * np.log10(1 + f / 700) for f in (LOWEST, HIGHEST))
    corners = 700 * (10 ** (np.linspace(lowest, highest, NUM_MELS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)
    triangles = sliding_window_view(corners, 3)
    return np.stack([np.interp(frequencies, triangle, [0, 1, 0]) for triangle in triangles], axis=1)
