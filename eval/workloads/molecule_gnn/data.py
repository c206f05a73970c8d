"""Molecules as one table of atoms and one of bonds, cut into batches of whole molecules."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ...data import read
from ...workload import Arrays, Batch, Splits

ATOM_FEATURES = {"element": 119, "aromatic": 2, "charge": 11, "hydrogens": 5, "degree": 9}
BOND_KINDS = 9  # 0 is not used; the bond's order (1 to 4), plus 4 in a ring
TASKS = 7
UNKNOWN = -1.0
MAX_CHARGE = 5
EVALUATION_BATCH = 32


class Graphs(NamedTuple):
    """A batch of molecules: all their atoms, and all their bonds, each in both directions."""

    atoms: Tensor  # (atoms, features): rows of the embedding table
    molecule: Tensor  # (atoms,): the molecule of each atom
    bonds: Tensor  # (bonds,): the kind of each bond
    source: Tensor  # (bonds,): the atom at which the bond starts
    target: Tensor  # (bonds,): the atom at which it ends
    labels: Tensor  # (molecules, tasks): 1, 0, or -1 where unknown


def load() -> Splits:
    """Each split as a table: columns of molecules, of all their atoms, and of all their bonds.

    source, target: the atoms of a bond, counted from the first atom of its molecule.
    """
    arrays = read("molecules")
    num_atoms = arrays["atoms"].astype(np.int64)
    molecule = np.repeat(np.arange(len(num_atoms)), num_atoms)  # (atoms,)
    later = np.repeat(np.arange(len(molecule)), arrays["bonds"])  # (bonds,): atoms
    ends = np.stack([later, later - arrays["bond_back"]], axis=1)  # (bonds, 2)
    within = ends - (num_atoms.cumsum() - num_atoms)[molecule[ends]]
    table = {
        "labels": arrays["labels"].astype(np.float32),
        "num_atoms": num_atoms,
        "num_bonds": 2 * np.bincount(molecule[later], minlength=len(num_atoms)),
        "atoms": _embedding_rows(arrays, degree=np.bincount(ends.ravel(), minlength=len(molecule))),
        "bonds": np.repeat(arrays["bond_kind"].astype(np.int64), 2),
        "source": within.ravel(),
        "target": within[:, ::-1].ravel(),
    }
    tensors = {name: torch.from_numpy(column) for name, column in table.items()}
    splits = [torch.from_numpy(np.flatnonzero(arrays["split"] == split)) for split in range(3)]
    return Splits(*(_select(tensors, index) for index in splits))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Graphs]:
    """Batches of molecules; every molecule at most once per epoch."""
    while True:
        order = torch.randperm(len(train["labels"]), generator=generator)
        order = order.to(train["labels"].device)
        for index in order.split(batch_size)[: len(order) // batch_size]:
            yield _graphs(_select(train, index))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean binary cross-entropy over the known labels."""
    graphs = Graphs(*batch)
    known = graphs.labels != UNKNOWN
    return functional.binary_cross_entropy_with_logits(model(graphs)[known], graphs.labels[known])


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean over the tasks of the average precision; 0 if a score is not finite."""
    # Imported here because this import would take most of the command's start-up time.
    from sklearn.metrics import average_precision_score

    index = torch.arange(len(split["labels"]), device=split["labels"].device)
    batches = (_graphs(_select(split, part)) for part in index.split(EVALUATION_BATCH))
    scores = torch.cat([model(batch) for batch in batches]).cpu()  # (molecules, tasks)
    if not scores.isfinite().all():
        return 0.0
    precisions = [
        average_precision_score(labels[labels != UNKNOWN], task[labels != UNKNOWN])
        for labels, task in zip(split["labels"].cpu().T, scores.T, strict=True)
    ]
    return float(np.mean(precisions))


def _embedding_rows(arrays: Mapping[str, np.ndarray], degree: np.ndarray) -> np.ndarray:
    """(atoms, features): rows of the embedding table.

    The last row of a feature stands for its largest value and all values above it.
    """
    columns = {**arrays, "charge": arrays["charge"].astype(np.int64) + MAX_CHARGE, "degree": degree}
    rows, first_row = [], 0
    for name, num_rows in ATOM_FEATURES.items():
        rows.append(first_row + np.minimum(columns[name].astype(np.int64), num_rows - 1))
        first_row += num_rows
    return np.stack(rows, axis=1)


def _select(table: Arrays, index: Tensor) -> dict[str, Tensor]:
    """The part of the table that belongs to the molecules of `index`."""
    atoms = _rows(table["num_atoms"], index)
    bonds = _rows(table["num_bonds"], index)
    rows = {"labels": index, "num_atoms": index, "num_bonds": index, "atoms": atoms}
    rows |= {"bonds": bonds, "source": bonds, "target": bonds}
    return {name: table[name][chosen] for name, chosen in rows.items()}


def _rows(counts: Tensor, index: Tensor) -> Tensor:
    """Indices of all rows of the molecules in `index`, where molecule i has `counts[i]` rows."""
    first, chosen = counts.cumsum(0) - counts, counts[index]
    shift = first[index] - (chosen.cumsum(0) - chosen)
    places = shift.repeat_interleave(chosen)
    return places + torch.arange(len(places), device=places.device)


def _graphs(table: Arrays) -> Graphs:
    """All molecules of the table as one batch, with atoms numbered through it."""
    num_atoms = table["num_atoms"]
    first_atom = (num_atoms.cumsum(0) - num_atoms).repeat_interleave(table["num_bonds"])
    return Graphs(
        atoms=table["atoms"],
        molecule=torch.arange(len(num_atoms), device=num_atoms.device).repeat_interleave(num_atoms),
        bonds=table["bonds"],
        source=table["source"] + first_atom,
        target=table["target"] + first_atom,
        labels=table["labels"],
    )
