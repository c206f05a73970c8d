import math
import re
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from eval.workloads.translation_transformer import WORKLOAD
from eval.workloads.translation_transformer.data import evaluate, load, loss, text
from eval.workloads.translation_transformer.model import END, PAD, Transformer


@pytest.fixture(scope="module")
def splits():
    return load()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Transformer().eval()


def batches(train, seed=0, number=3):
    generator = torch.Generator().manual_seed(seed)
    stream = WORKLOAD.training_batches(train, WORKLOAD.batch_size, generator)
    return [next(stream) for _ in range(number)]


def words(sentence):
    return tuple(re.sub(r"\bX\b|[\W\d_]+", " ", sentence).lower().split())


def losses_of_training(train, seed):
    torch.manual_seed(seed)
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for batch in batches(train, seed, number=12):
        losses.append(loss(model, batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    return torch.stack(losses).detach()


def test_no_sentence_has_a_twin_in_another_split_but_for_one_word(splits):
    """Case, digits, marks and variables do not count, nor one word of four and more."""
    units = splits.validation["units"]
    for language in ("source", "target"):
        seen = set()
        for split in (splits.train, splits.validation, splits.test):
            sentences = {words(text(row, units)) for row in split[language].tolist()}
            masked = {
                (*sentence[:place], "*", *sentence[place + 1 :])
                for sentence in sentences
                if len(sentence) >= 4
                for place in range(len(sentence))
            }
            assert seen.isdisjoint(sentences | masked)
            seen |= sentences | masked


def test_the_held_out_splits_have_500_sentences_and_training_thousands(splits):
    assert len(splits.train["source"]) == 6198
    assert len(splits.validation["source"]) == len(splits.test["source"]) == 500


def test_target_units_spell_the_references(splits):
    for split in (splits.validation, splits.test):
        spelled = [text(row, split["units"]) for row in split["target"].tolist()]
        assert spelled == split["references"]


def test_every_sentence_is_its_units_one_end_and_padding(splits):
    for units in (splits.train["source"], splits.train["target"], splits.test["target"]):
        assert ((units == END).sum(dim=1) == 1).all()
        after_end = (units == END).cumsum(dim=1) - (units == END).long()
        assert torch.equal(units == PAD, after_end == 1)


def test_an_epoch_shows_each_sentence_at_most_once(splits):
    per_epoch = len(splits.train["source"]) // WORKLOAD.batch_size
    longest = splits.train["source"].shape[1]
    shown = [
        tuple(row + [PAD] * (longest - len(row)))
        for source, _ in batches(splits.train, number=per_epoch)
        for row in source.tolist()
    ]
    known = [tuple(row) for row in splits.train["source"].tolist()]
    assert len(shown) == per_epoch * WORKLOAD.batch_size
    assert all(shown.count(row) <= known.count(row) for row in set(shown[:300]))


def test_batches_hold_little_padding(splits):
    shown = torch.cat(
        [units.flatten() for batch in batches(splits.train, number=300) for units in batch]
    )
    assert (shown == PAD).float().mean() < 0.2


def test_the_loss_of_a_fresh_model_is_near_chance_and_reaches_every_parameter(splits, model):
    value = loss(model.train(), batches(splits.train)[0])
    value.backward()
    assert math.log(2000) - 1 < value < math.log(2000) + 1
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_a_few_steps_lower_the_loss(splits):
    losses = losses_of_training(splits.train, seed=0)
    assert losses[-4:].mean() < losses[:4].mean() - 0.3


@pytest.mark.usefixtures("one_thread")
def test_training_repeats_bit_for_bit_with_its_seed_only(splits):
    first, again, other = (losses_of_training(splits.train, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_batches_depend_on_the_seed_only(splits):
    first, again, other = (batches(splits.train, seed)[0] for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


def test_padding_a_sentence_does_not_change_its_logits(splits, model):
    source, target = batches(splits.train)[0]
    padded = F.pad(source, (0, 7), value=PAD)
    # Sums over masked positions are taken in another order: equal up to rounding.
    torch.testing.assert_close(model(padded, target), model(source, target), atol=1e-4, rtol=1e-4)


def test_padding_of_the_target_does_not_change_the_loss(splits, model):
    source, target = batches(splits.train)[0]
    padded = F.pad(target, (0, 7), value=PAD)
    torch.testing.assert_close(loss(model, (source, padded)), loss(model, (source, target)))


def test_a_target_unit_is_predicted_from_those_before_it_only(splits, model):
    source, target = batches(splits.train)[0]
    changed = target.clone()
    changed[:, 4:] = 7
    before, after = model(source, target), model(source, changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_the_source_is_read(splits, model):
    source, target = batches(splits.train)[0]
    assert not torch.allclose(model(source, target), model(source.flip(0), target))


def test_decoding_step_by_step_finds_the_likeliest_unit_of_the_whole(splits, model):
    source = batches(splits.train)[0][0]
    model.embedding.weight.data[[PAD, END]] = 0  # never the likeliest
    for parameter in model.decoder.parameters():
        parameter.data *= 4  # a fresh model would only repeat itself
    with torch.no_grad():
        translation = model.translate(source, limit=9)
        likeliest = model(source, translation).argmax(dim=-1)
    assert torch.equal(translation, likeliest)
    assert len(translation.unique()) > 5


def test_translating_stops_when_all_sentences_have_ended_and_pads_the_others(model):
    class Scripted(Transformer):
        def _logits(self, x):
            return F.one_hot(next(units), 2000).float()

    units = iter(torch.tensor([[[5], [6], [7]], [[END], [6], [7]], [[9], [END], [7]]]))
    source = torch.tensor([[5, 6, END]] * 3)
    assert Scripted().translate(source, limit=3).tolist() == [[5, END, PAD], [6, 6, END], [7, 7, 7]]
    units = iter(torch.tensor([[[5], [END]], [[END], [8]], [[9], [9]]]))
    assert Scripted().translate(source[:2], limit=3).tolist() == [[5, END], [END, PAD]]


def test_perfect_translations_have_a_bleu_of_100(splits):
    for split in (splits.validation, splits.test):
        remaining = iter(split["target"].split(64))
        oracle = SimpleNamespace(translate=lambda source, limit, left=remaining: next(left))
        assert evaluate(oracle, split) == pytest.approx(100)


def test_bleu_of_a_translation_cut_short_is_the_brevity_penalty():
    units = ["<pad>", "</s>", "▁a", "▁b", "▁c", "▁d", "▁e"]
    split = {"source": torch.tensor([[2, END]]), "units": units, "references": ["a b c d e"]}
    cut_short = SimpleNamespace(translate=lambda source, limit: torch.tensor([[2, 3, 4, 5, END]]))
    assert evaluate(cut_short, split) == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_saying_nothing_has_a_bleu_of_0(splits):
    silent = SimpleNamespace(translate=lambda source, limit: torch.full((len(source), 1), END))
    assert evaluate(silent, splits.validation) == 0


def test_a_diverged_model_has_a_bleu_of_0(splits, model):
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    with torch.no_grad():
        assert evaluate(model, splits.validation) == 0


def test_a_fresh_model_translates_next_to_nothing_right(splits, model):
    with torch.no_grad():
        first, second = (evaluate(model, splits.validation) for _ in range(2))
    assert first == second < 1
