import pytest
import torch
from torch.nn import functional as F

from eval.data import read
from eval.workloads import speech


@pytest.fixture(scope="module")
def splits():
    return speech.load()


def batches(split, seed, number=3, batch_size=8):
    stream = speech.training_batches(split, batch_size, torch.Generator().manual_seed(seed))
    return [next(stream) for _ in range(number)]


def saying(*rows):
    """A stand-in for a model that finds one class in each frame, the rows in turn."""
    remaining = list(rows)

    def model(frames, frame_counts):
        best = torch.tensor([remaining.pop(0) for _ in frames])
        counts = torch.full((len(frames),), best.shape[1])
        return F.one_hot(best, speech.NUM_CLASSES).float(), counts

    return model


def references(*rows):
    number, longest = len(rows), max(map(len, rows))
    return {
        "frames": torch.zeros(number, 10, speech.NUM_MELS),
        "frame_counts": torch.full((number,), 10),
        "phones": torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]),
        "phone_counts": torch.tensor([len(row) for row in rows]),
    }


def test_no_utterance_and_no_phone_sequence_is_in_two_splits():
    arrays = read("speech")
    utterances = [set(arrays["utterances"][arrays["splits"] == part]) for part in range(3)]
    assert len(set.union(*utterances)) == sum(map(len, utterances)) == 614
    sequences = arrays["phones"].tobytes()
    ends = arrays["phone_counts"].cumsum(dtype=int)
    said = [sequences[end - n : end] for end, n in zip(ends, arrays["phone_counts"], strict=True)]
    assert len(set(said)) == len(said)


def test_the_splits_hold_every_segment(splits):
    sizes = [len(split["frames"]) for split in (splits.train, splits.validation, splits.test)]
    assert sizes == [2069, 261, 273]


def test_every_phone_of_the_held_out_splits_is_trained_on(splits):
    trained, *held_out = (
        set(split["phones"].flatten().tolist())
        for split in (splits.train, splits.validation, splits.test)
    )
    assert trained == set(range(speech.NUM_CLASSES))
    assert all(phones <= trained for phones in held_out)


def test_training_frames_have_mean_zero_and_deviation_one(splits):
    frames, counts = splits.train["frames"], splits.train["frame_counts"]
    frames = frames[speech.frame_mask(counts, frames.shape[1])]
    torch.testing.assert_close(frames.mean(0), torch.zeros(speech.NUM_MELS), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.std(0), torch.ones(speech.NUM_MELS), atol=1e-4, rtol=0)


def test_half_the_frames_leave_room_for_every_phone_and_the_blanks_between_equal_ones(splits):
    for split in (splits.train, splits.validation, splits.test):
        phones = split["phones"]
        repeated = ((phones[:, 1:] == phones[:, :-1]) & (phones[:, 1:] != 0)).sum(1)
        assert (split["phone_counts"] + repeated <= split["frame_counts"] // 2).all()


def test_a_seed_settles_the_batches(splits):
    one, same, other = (batches(splits.train, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, sum(one, ()), sum(same, ())))
    assert not any(
        a.shape == b.shape and torch.equal(a, b)
        for (a, *_), (b, *_) in zip(one, other, strict=True)
    )


def test_an_epoch_shows_no_segment_twice(splits):
    few = {name: column[:50].clone() for name, column in splits.train.items()}
    few["phones"][:, 0] = torch.arange(50)
    for epoch in range(2):
        seen = torch.cat([phones[:, 0] for _, _, phones, _ in batches(few, epoch, number=6)])
        assert len(set(seen.tolist())) == 48


def test_little_of_a_batch_is_padding(splits):
    some = batches(splits.train, 0, number=100)
    places = sum(frames[..., 0].numel() for frames, *_ in some)
    assert sum(int(counts.sum()) for _, counts, *_ in some) > 0.9 * places


def test_spec_augment_erases_whole_mels_and_whole_frames_and_nothing_else():
    frames = torch.ones(64, 100, speech.NUM_MELS)
    counts = torch.full((64,), 100)
    changed = speech.spec_augment(frames, counts, torch.Generator().manual_seed(0))
    kept_frames, kept_mels = changed.amax(2), changed.amax(1)
    assert torch.equal(changed, kept_frames[:, :, None] * kept_mels[:, None, :])
    assert 0 < 1 - kept_frames.mean() < 0.1
    assert 0 < 1 - kept_mels.mean() < 0.25


def test_greedy_decoding_merges_repetitions_drops_blanks_and_stops_at_the_count():
    best = torch.tensor([[0, 3, 3, 0, 3, 4, 4, 0, 9, 9], [5, 5, 5, 0, 0, 0, 6, 6, 0, 1]])
    logits = F.one_hot(best, speech.NUM_CLASSES).float()
    assert speech.greedy_decode(logits, torch.tensor([8, 10])) == [[3, 3, 4], [5, 6, 1]]


def test_perfect_decoding_has_no_errors():
    assert speech.evaluate(saying([0, 3, 3, 0, 3, 4]), references([3, 3, 4])) == 0.0


def test_saying_nothing_misses_every_phone():
    assert speech.evaluate(saying([0] * 5, [0] * 5), references([3, 3, 4], [7])) == 1.0


def test_errors_are_counted_over_all_phones_not_per_segment():
    split = references([1, 2, 3, 4], [5])
    model = saying([1, 2, 4, 0, 0, 0], [6, 0, 5, 0, 0, 8])  # a deletion; two insertions
    assert speech.evaluate(model, split) == 3 / 5


def test_a_model_of_nans_is_evaluated_without_complaint():
    def model(frames, frame_counts):
        return torch.full((len(frames), 5, speech.NUM_CLASSES), torch.nan), frame_counts // 2

    assert speech.evaluate(model, references([3, 3, 4])) == 1.0
