import numpy as np
import pytest
import torch
from iterates import Weights, noise, weights_of
from torch import Tensor

from selftune.averaging import EMA, PowerEMA, SnapshotStore, WeightAverage
from selftune.averaging.post_hoc import mixture

STEPS = 1000


def run(store: SnapshotStore, x: Tensor, snapshot_every: int, **options: int) -> None:
    """Follow the iterates with two power-function averages, and store both now and then."""
    model = Weights(x[0])
    averages = [WeightAverage(model, PowerEMA(s, **options)) for s in (0.05, 0.1)]
    for step, weights in enumerate(x, start=1):
        model.set(weights)
        for average in averages:
            average.update()
            if step % snapshot_every == 0:
                store.add(average)


def direct(x: Tensor, sigma_rel: float) -> Tensor:
    return weights_of(PowerEMA(sigma_rel), len(x)) @ x


def walk(num_steps: int) -> Tensor:
    return noise(num_steps, dtype=torch.float32).cumsum(0) / num_steps**0.5


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[SnapshotStore, Tensor]:
    store, x = SnapshotStore(tmp_path_factory.mktemp("snapshots")), walk(STEPS)
    run(store, x, snapshot_every=20)
    return store, x


@pytest.mark.parametrize("sigma_rel", [0.05, 0.07, 0.1, 0.15, 0.2])
def test_a_third_width_is_reproduced(stored, sigma_rel):
    store, x = stored
    actual = store.synthesize(sigma_rel)["x"]
    # Fifty snapshots of each width: the profile is met to 0.3 % in the L2 norm.
    expected = direct(x.double(), sigma_rel).float()
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-3)


def test_an_earlier_step_is_reproduced_from_no_later_snapshots(stored):
    store, x = stored
    expected = direct(x[:600].double(), 0.15).float()
    torch.testing.assert_close(store.synthesize(0.15, step=600)["x"], expected, rtol=0, atol=2e-3)


def test_a_stored_width_comes_back_to_rounding(stored):
    store, x = stored
    expected = direct(x.double(), 0.1).float()
    torch.testing.assert_close(store.synthesize(0.1)["x"], expected, rtol=1e-5, atol=1e-5)


def test_weights_that_do_not_move_are_synthesized_as_they_are(tmp_path):
    store = SnapshotStore(tmp_path)
    run(store, torch.full((40, 2), 3.0), snapshot_every=4)
    torch.testing.assert_close(
        store.synthesize(0.15)["x"], torch.full((2,), 3.0), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("sigma_rel", [0.03, 0.07, 0.15, 0.2, 0.25])
@pytest.mark.parametrize("count", [10, 50])
def test_the_error_of_a_mixture_is_that_of_its_profile(sigma_rel, count):
    times = np.linspace(STEPS / count, STEPS, count).astype(int)
    snapshots = [(int(t), s) for t in times for s in (0.05, 0.1)]
    coefficients, error = mixture(snapshots, (STEPS, sigma_rel))
    profile = {s: weights_of(PowerEMA(s), STEPS) for s in (0.05, 0.1, sigma_rel)}
    mixed = torch.zeros(STEPS, dtype=torch.float64)
    for c, (t, s) in zip(coefficients, snapshots, strict=True):
        time = torch.arange(STEPS, dtype=torch.float64).clamp(max=t)
        gamma = PowerEMA(s).gamma
        after = torch.arange(1, STEPS + 1, dtype=torch.float64).clamp(max=t)
        mixed += c * ((after / t) ** (gamma + 1) - (time / t) ** (gamma + 1))
    distance = (mixed - profile[sigma_rel]).norm() / profile[sigma_rel].norm()
    assert distance.item() == pytest.approx(error, rel=0.1, abs=1e-3)
    assert coefficients.sum() == pytest.approx(1, abs=1e-9)


def test_snapshots_that_cannot_stand_for_a_width_are_reported(tmp_path):
    store = SnapshotStore(tmp_path)
    run(store, walk(30), snapshot_every=10)
    with pytest.warns(UserWarning, match=r"6 snapshots up to step 30 miss sigma_rel=0.25 by \d+%"):
        store.synthesize(0.25)


def test_every_makes_no_difference_to_what_can_be_synthesized(tmp_path):
    store, x = SnapshotStore(tmp_path), walk(STEPS)
    run(store, x, snapshot_every=20, every=10)
    expected = weights_of(PowerEMA(0.15, every=10), STEPS) @ x.double()
    torch.testing.assert_close(store.synthesize(0.15)["x"].double(), expected, rtol=0, atol=2e-3)


def test_snapshots_survive_in_float32_and_by_name(stored):
    store, _ = stored
    snapshot = torch.load(sorted(store.folder.glob("*.pt"))[-1], weights_only=True)
    assert snapshot["weights"]["x"].dtype == torch.float32
    assert (snapshot["step"], snapshot["sigma_rel"]) == (STEPS, 0.1)


def test_an_unfinished_snapshot_is_not_read(stored, tmp_path):
    store = SnapshotStore(tmp_path)
    run(store, walk(20), snapshot_every=5)
    expected = store.synthesize(0.08)["x"]
    (tmp_path / "step0000000025-sigma0.05.unfinished").write_bytes(b"half")
    assert torch.equal(store.synthesize(0.08)["x"], expected)


def test_other_profiles_are_refused(tmp_path):
    for profile in (EMA(half_life=3), PowerEMA(0.1, start=5)):
        average = WeightAverage(Weights(torch.zeros(1)), profile)
        with pytest.raises(ValueError, match="needs PowerEMA with start=0, got "):
            SnapshotStore(tmp_path).add(average)


def test_snapshots_of_different_models_are_refused(tmp_path):
    store = SnapshotStore(tmp_path)
    for step, size in enumerate((3, 4), start=1):
        average = WeightAverage(Weights(torch.zeros(size)), PowerEMA(0.1))
        for _ in range(step):
            average.update()
        store.add(average)
    with pytest.raises(ValueError, match="has snapshots of different models"):
        store.synthesize(0.1)


def test_no_snapshots_are_an_error(stored, tmp_path):
    with pytest.raises(ValueError, match="has no snapshot"):
        SnapshotStore(tmp_path / "new").synthesize(0.1)
    with pytest.raises(ValueError, match="has no snapshot up to step 19"):
        stored[0].synthesize(0.1, step=19)


def test_snapshots_stay_where_they_are_when_the_program_changes_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SnapshotStore("snapshots")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    run(store, walk(100), snapshot_every=50)
    assert len([*(tmp_path / "snapshots").iterdir()]) == 4
