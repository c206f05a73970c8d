"""A graph network with messages along bonds and a latent vector for each molecule.

Battaglia et al., Relational inductive biases, deep learning, and graph networks, 2018.
https://arxiv.org/abs/1806.01261
"""

import torch
from torch import Tensor, nn

from ..initialisation import lecun_normal_
from .data import ATOM_FEATURES, BOND_KINDS, TASKS, Graphs


class GraphNetwork(nn.Module):
    """Each step updates bonds, then atoms, then molecules; a linear layer predicts the tasks."""

    def __init__(self, width: int = 48, num_steps: int = 3, dropout: float = 0.1):
        super().__init__()
        self.embed_atom = nn.Embedding(sum(ATOM_FEATURES.values()), width)
        self.embed_bond = nn.Embedding(BOND_KINDS, width)
        self.steps = nn.ModuleList(_Step(width, dropout) for _ in range(num_steps))
        self.read = nn.Linear(width, TASKS)
        self.apply(_initialise)

    def forward(self, graphs: Graphs) -> Tensor:
        atoms = self.embed_atom(graphs.atoms).sum(1)  # (atoms, width)
        bonds = self.embed_bond(graphs.bonds)  # (bonds, width); each bond in both directions
        molecules = atoms.new_zeros(len(graphs.labels), atoms.shape[1])  # (molecules, width)
        for step in self.steps:
            atoms, bonds, molecules = step(atoms, bonds, molecules, graphs)
        return self.read(molecules)  # (molecules, tasks)


class _Step(nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.update_bonds = _Update(4, width, dropout)
        self.update_atoms = _Update(3, width, dropout)
        self.update_molecules = _Update(3, width, dropout)

    def forward(
        self, atoms: Tensor, bonds: Tensor, molecules: Tensor, graphs: Graphs
    ) -> tuple[Tensor, Tensor, Tensor]:
        source, target, molecule = graphs.source, graphs.target, graphs.molecule
        bonds = self.update_bonds(
            (bonds, None), (atoms, source), (atoms, target), (molecules, molecule[target])
        )
        received = torch.zeros_like(atoms).index_add(0, target, bonds)
        atoms = self.update_atoms((atoms, None), (received, None), (molecules, molecule))
        nothing = torch.zeros_like(molecules)
        all_atoms = nothing.index_add(0, molecule, atoms)
        all_bonds = nothing.index_add(0, molecule, received)
        molecules = self.update_molecules((all_atoms, None), (all_bonds, None), (molecules, None))
        return atoms, bonds, molecules


class _Update(nn.Module):
    """One hidden layer over several concatenated inputs, some of them copied to many rows.

    Each input is multiplied by its columns of the weight before its rows are copied. That saves
    multiplications, as an atom is copied to all its bonds and a molecule to all its atoms.
    """

    def __init__(self, num_inputs: int, width: int, dropout: float):
        super().__init__()
        self.linear = nn.Linear(num_inputs * width, width)
        self.activate = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, *inputs: tuple[Tensor, Tensor | None]) -> Tensor:
        """inputs: pairs of rows and, for each output row, the index of the input row to use.

        None in place of indices: row i of the output uses row i.
        """
        total = self.linear.bias
        columns = self.linear.weight.chunk(len(inputs), dim=1)
        for (rows, places), weight in zip(inputs, columns, strict=True):
            mixed = rows @ weight.T
            # index_select computes mixed[places] and has a faster gradient.
            total = total + (mixed if places is None else mixed.index_select(0, places))
        return self.activate(total)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        lecun_normal_(module.weight)
        nn.init.zeros_(module.bias)
