import numpy as np
import pytest
import torch
from scipy.special import logit
from sklearn.metrics import log_loss

from eval.data import read
from eval.workloads.ctr_dlrm import WORKLOAD
from eval.workloads.ctr_dlrm.data import VOCABULARY


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return WORKLOAD.build_model()


def batches(train, seed, number=3):
    stream = WORKLOAD.training_batches(train, 128, torch.Generator().manual_seed(seed))
    return [next(stream) for _ in range(number)]


def evaluate_with(logits, late):
    """The metric of a stand-in for a model that gives these logits in turn."""
    split = {"numbers": torch.zeros(len(late), 13), "ids": torch.zeros(len(late), 13), "late": late}
    remaining = list(logits)
    return WORKLOAD.evaluate(
        lambda numbers, ids: torch.stack([remaining.pop(0) for _ in numbers]), split
    )


def test_the_splits_hold_every_flight(splits):
    sizes = [len(split["late"]) for split in (splits.train, splits.validation, splits.test)]
    assert sizes == [267412, 33426, 33426]


def test_no_flight_is_there_twice():
    arrays = read("flights")
    columns = dict(zip(arrays["category_names"], arrays["categories"], strict=True))
    schedule = [columns[name] for name in ("month", "day", "hour", "carrier", "flight", "origin")]
    minutes = arrays["numbers"][list(arrays["number_names"]).index("minute")]
    flights = np.stack([*schedule, minutes.astype(np.uint16)], axis=1)
    assert len(np.unique(flights, axis=0)) == len(flights)


def test_nothing_known_after_departure_is_among_the_columns():
    arrays = read("flights")
    columns = {*arrays["category_names"], *arrays["number_names"]}
    assert columns.isdisjoint({"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"})


def test_training_numbers_have_mean_zero_and_deviation_one(splits):
    numbers = splits.train["numbers"]
    torch.testing.assert_close(numbers.mean(0), torch.zeros(13), atol=1e-4, rtol=0)
    torch.testing.assert_close(numbers.std(0), torch.ones(13), atol=1e-4, rtol=0)


def test_each_column_has_its_own_rows_of_the_table(splits):
    last = torch.tensor(list(VOCABULARY.values())).cumsum(0)
    first = last - torch.tensor(list(VOCABULARY.values()))
    for split in (splits.train, splits.validation, splits.test):
        assert torch.all((first <= split["ids"]) & (split["ids"] < last))


def test_frequent_ids_have_low_rows_and_rare_ones_share_the_first(splits):
    arrays, column = read("flights"), list(VOCABULARY).index("tailnum")
    codes = arrays["categories"][column][arrays["split"] == 0]
    rows = splits.train["ids"][:, column]
    rows = rows - sum(list(VOCABULARY.values())[:column])
    counts = rows.bincount()
    assert torch.all(counts[1:-1] >= counts[2:])
    assert len(counts) == VOCABULARY["tailnum"]
    assert len(np.unique(codes[rows == 0])) > 3000
    assert all(len(np.unique(codes[rows == row])) == 1 for row in (1, 2, 255))


def test_the_top_sees_the_dot_product_of_every_pair(splits, model):
    numbers, ids, _ = batches(splits.train, 0)[0]
    seen = []
    model.top.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(numbers, ids)
    dense = model.bottom(numbers)
    vectors = [dense, *model.embed(ids).unbind(1)]
    dots = [(one * other).sum(1) for index, one in enumerate(vectors) for other in vectors[index:]]
    torch.testing.assert_close(seen[0], torch.cat([dense, torch.stack(dots, 1)], dim=1))


def test_the_gradient_of_a_fresh_model_reaches_every_parameter(splits, model):
    loss = WORKLOAD.loss(model, batches(splits.train, 0)[0])
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


def test_one_seed_gives_one_order_of_the_flights(splits):
    one, same, other = (sum(batches(splits.train, seed), ()) for seed in (0, 0, 1))
    assert all(map(torch.equal, one, same))
    assert not torch.equal(one[0], other[0])


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


def test_sure_and_right_predictions_lose_nothing():
    late = torch.tensor([1.0, 0.0, 0.0, 1.0])
    assert evaluate_with(200 * late - 100, late) < 1e-30


def test_predicting_the_base_rate_loses_its_entropy(splits):
    late = splits.validation["late"]
    share = late.mean().item()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    found = evaluate_with(torch.full_like(late, float(logit(share))), late)
    assert found == pytest.approx(entropy, rel=1e-5)
    assert found == pytest.approx(0.5617, abs=1e-4)


def test_the_metric_is_the_log_loss_of_scikit_learn():
    logits = torch.linspace(-3, 3, 1500)
    late = (torch.arange(1500) % 3 == 0).float()
    expected = log_loss(late, logits.sigmoid())
    assert evaluate_with(logits, late) == pytest.approx(expected, rel=1e-5)
