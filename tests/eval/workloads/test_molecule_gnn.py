import pytest
import torch

from eval.workloads.molecule_gnn import WORKLOAD
from eval.workloads.molecule_gnn.data import TASKS, UNKNOWN, Graphs


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return WORKLOAD.build_model()


def batches(train, seed, number=3, batch_size=32):
    stream = WORKLOAD.training_batches(train, batch_size, torch.Generator().manual_seed(seed))
    return [next(stream) for _ in range(number)]


def test_the_splits_hold_every_molecule(splits):
    sizes = [len(split["labels"]) for split in (splits.train, splits.validation, splits.test)]
    assert sizes == [18893, 2950, 2942]


def test_every_split_has_hits_and_misses_of_every_task(splits):
    for split in (splits.train, splits.validation, splits.test):
        assert all({0.0, 1.0} <= set(labels.tolist()) for labels in split["labels"].T)


def test_one_seed_gives_one_order_of_the_molecules(splits):
    one, same, other = (batches(splits.train, seed) for seed in (0, 0, 1))
    for tensor, again in zip(sum(one, ()), sum(same, ()), strict=True):
        assert torch.equal(tensor, again)
    assert not torch.equal(one[0].labels, other[0].labels)


def test_an_epoch_holds_no_molecule_twice(splits):
    train = splits.train | {"labels": torch.arange(len(splits.train["labels"]))[:, None]}
    seen = torch.cat(
        [batch.labels for batch in batches(train, 0, number=len(train["labels"]) // 32)]
    )
    assert len(seen.unique()) == len(seen)


def test_every_bond_is_there_in_both_directions_and_within_a_molecule(splits):
    (graphs,) = batches(splits.train, 0, number=1)
    directed = torch.stack([graphs.source, graphs.target, graphs.bonds])  # (3, bonds)
    backwards = directed[[1, 0, 2]]
    assert len(directed.unique(dim=1).T) == len(graphs.bonds)
    assert torch.equal(directed.unique(dim=1), backwards.unique(dim=1))
    assert torch.equal(graphs.molecule[graphs.source], graphs.molecule[graphs.target])


def test_a_molecule_is_the_same_in_every_batch(splits, model):
    train = splits.train
    number = torch.arange(len(train["labels"]))[:, None]
    (graphs,) = batches(train | {"labels": number}, 0, number=1)
    model.eval()
    together = model(graphs)
    chosen = (graphs.molecule == 5).nonzero().squeeze(1)
    bonds = (graphs.molecule[graphs.source] == 5).nonzero().squeeze(1)
    alone = Graphs(
        atoms=graphs.atoms[chosen],
        molecule=torch.zeros(len(chosen), dtype=torch.long),
        bonds=graphs.bonds[bonds],
        source=graphs.source[bonds] - chosen[0],
        target=graphs.target[bonds] - chosen[0],
        labels=graphs.labels[5:6],
    )
    torch.testing.assert_close(model(alone)[0], together[5])


def test_the_order_of_atoms_and_bonds_changes_no_prediction(splits, model):
    (graphs,) = batches(splits.train, 0, number=1)
    atoms, bonds = torch.randperm(len(graphs.atoms)), torch.randperm(len(graphs.bonds))
    place = atoms.argsort()
    shuffled = Graphs(
        atoms=graphs.atoms[atoms],
        molecule=graphs.molecule[atoms],
        bonds=graphs.bonds[bonds],
        source=place[graphs.source[bonds]],
        target=place[graphs.target[bonds]],
        labels=graphs.labels,
    )
    model.eval()
    torch.testing.assert_close(model(shuffled), model(graphs), atol=1e-5, rtol=1e-5)


def test_unknown_labels_do_not_change_the_loss(splits, model):
    (graphs,) = batches(splits.train, 0, number=1)
    model.eval()
    known = graphs.labels != UNKNOWN
    assert 0 < known.sum() < known.numel()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        model(graphs), graphs.labels.clamp(min=0), weight=known.float(), reduction="sum"
    )
    torch.testing.assert_close(WORKLOAD.loss(model, graphs), expected / known.sum())


def test_the_gradient_of_a_fresh_model_reaches_every_parameter(splits, model):
    loss = WORKLOAD.loss(model, batches(splits.train, 0, number=1)[0])
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_training_lowers_the_training_loss(splits, model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for batch in batches(splits.train, 0, number=60):
        optimizer.zero_grad()
        loss = WORKLOAD.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


@pytest.mark.usefixtures("one_thread")
def test_one_seed_gives_one_run_bit_for_bit(splits):
    def run(seed):
        torch.manual_seed(seed)
        model = WORKLOAD.build_model()
        for batch in batches(splits.train, seed):
            WORKLOAD.loss(model, batch).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_right_scores_have_a_precision_of_one(splits):
    labels = splits.validation["labels"]
    assert evaluate_with(labels, splits) == 1


def test_equal_scores_have_the_precision_of_the_share_of_hits(splits):
    labels = splits.validation["labels"]
    shares = [task[task != UNKNOWN].mean().item() for task in labels.T]
    found = evaluate_with(torch.zeros_like(labels), splits)
    assert found == pytest.approx(sum(shares) / TASKS)


def test_scores_that_are_not_finite_are_worth_nothing(splits):
    labels = splits.validation["labels"]
    assert evaluate_with(torch.full_like(labels, torch.nan), splits) == 0


def evaluate_with(scores, splits):
    """The metric of a stand-in for a model that gives these scores in turn."""
    remaining = list(scores)

    def model(graphs):
        return torch.stack([remaining.pop(0) for _ in graphs.labels])

    return WORKLOAD.evaluate(model, splits.validation)
