"""A parser that turns SMILES, a line notation of molecules, into graphs.

Weininger, SMILES, a chemical language and information system, 1988.
https://doi.org/10.1021/ci00057a005
Stereochemistry and isotopes are ignored, so that stereoisomers have the same graph.
"""

import re
from dataclasses import dataclass, field

ELEMENTS = (  # by atomic number; * stands for any atom
    "* H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb "
    "Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu"
)
ATOMIC_NUMBER = {symbol: number for number, symbol in enumerate(ELEMENTS.split())}
SINGLE, DOUBLE, TRIPLE, AROMATIC = 1, 2, 3, 4

_ORDERS = {"-": SINGLE, "/": SINGLE, "\\": SINGLE, "=": DOUBLE, "#": TRIPLE, ":": AROMATIC}
_VALENCES = {"B": (3,), "C": (4,), "N": (3, 5), "O": (2,), "P": (3, 5), "S": (2, 4, 6), "*": (0,)}
_TOKEN = re.compile(
    r"\[\d*(?P<bracketed>[A-Z][a-z]?|[a-z][a-z]?|\*)@*(?:H(?P<hydrogens>\d*))?"
    r"(?P<charge>(?P<sign>[+-])(?:\d+|(?P=sign)*))?(?::\d+)?\]"
    r"|(?P<plain>Br|Cl|[BCNOPSFIbcnops*])"
    r"|(?P<order>[-=#:/\\])|%(?P<long_ring>\d\d)|(?P<ring>\d)"
    r"|(?P<open>\()|(?P<close>\))|(?P<dot>\.)"
)


@dataclass
class Atom:
    symbol: str
    aromatic: bool
    charge: int = 0
    hydrogens: int | None = None  # not counted as atoms; None: as many as the valence requires


@dataclass
class Bond:
    earlier: int  # index of the atom that was written first
    later: int  # index of the other atom
    order: int
    in_ring: bool = False


@dataclass
class Molecule:
    atoms: list[Atom] = field(default_factory=list)
    bonds: list[Bond] = field(default_factory=list)


def parse(smiles: str) -> Molecule:
    """The graph of one molecule: atoms in the order written, bonds sorted by their later atom."""
    atoms: list[Atom] = []
    to_parent: dict[int, Bond] = {}  # an atom's bond to the atom that it follows
    closures: list[Bond] = []
    branches: list[int] = []
    rings: dict[str, tuple[int, int | None]] = {}  # unclosed rings: atom, bond order
    last, order = -1, None
    position = 0
    while position < len(smiles):
        token = _TOKEN.match(smiles, position)
        if token is None:
            raise ValueError(f"not SMILES from {smiles[position:]!r} on: {smiles!r}")
        position = token.end()
        ring = token["ring"] or token["long_ring"]
        if token["order"]:
            order = _ORDERS[token["order"]]
        elif ring in rings:
            first, first_order = rings.pop(ring)
            closures.append(_bond(atoms, first, last, order or first_order))
            order = None
        elif ring:
            rings[ring] = last, order
            order = None
        elif token["open"]:
            branches.append(last)
        elif token["close"]:
            last = branches.pop()
        elif token["dot"]:
            last = -1
        else:
            atoms.append(_atom(token))
            if last >= 0:
                to_parent[len(atoms) - 1] = _bond(atoms, last, len(atoms) - 1, order)
            last, order = len(atoms) - 1, None
    if rings or branches:
        raise ValueError(f"unclosed ring or branch: {smiles!r}")
    _mark_rings(closures, to_parent)
    bonds = sorted([*to_parent.values(), *closures], key=lambda bond: (bond.later, bond.earlier))
    for bond in bonds:
        if bond.order == AROMATIC and not bond.in_ring:  # as between the rings of c1ccccc1c1ccccc1
            bond.order = SINGLE
    _fill_valences(atoms, bonds)
    return Molecule(atoms, bonds)


def _atom(token: re.Match[str]) -> Atom:
    symbol = token["bracketed"] or token["plain"]
    atom = Atom(symbol.capitalize(), aromatic=symbol.islower())
    if token["bracketed"]:
        hydrogens = token["hydrogens"]
        atom.hydrogens = 0 if hydrogens is None else int(hydrogens or 1)
        charge = token["charge"] or ""
        if charge[1:].isdigit():
            atom.charge = int(charge)
        else:  # as many signs as charges
            atom.charge = charge.count("+") - charge.count("-")
    return atom


def _bond(atoms: list[Atom], one: int, other: int, order: int | None) -> Bond:
    both_aromatic = atoms[one].aromatic and atoms[other].aromatic
    default = AROMATIC if both_aromatic else SINGLE
    return Bond(min(one, other), max(one, other), order or default)


def _mark_rings(closures: list[Bond], to_parent: dict[int, Bond]) -> None:
    """Mark the bonds of all rings: each closure, and the written bonds between its ends."""
    for closure in closures:
        closure.in_ring = True
        low, high = closure.earlier, closure.later
        while low != high:
            if high not in to_parent:
                raise ValueError("a ring closure across a dot is not supported")
            to_parent[high].in_ring = True
            low, high = sorted((low, to_parent[high].earlier))


def _fill_valences(atoms: list[Atom], bonds: list[Bond]) -> None:
    """Set the hydrogens of unbracketed atoms to complete the lowest valence that fits."""
    used = [int(atom.aromatic) for atom in atoms]  # one for the aromatic system
    for bond in bonds:
        for end in (bond.earlier, bond.later):
            used[end] += 1 if bond.order == AROMATIC else bond.order
    for atom, taken in zip(atoms, used, strict=True):
        if atom.hydrogens is None:
            valences = _VALENCES.get(atom.symbol, (1,))  # halogens: 1
            if atom.aromatic:
                valences = valences[:1]
            atom.hydrogens = next((v - taken for v in valences if v >= taken), 0)
