"""Every data set says under which licence it comes, and what that licence asks for."""

import json
from pathlib import Path

import pytest

from eval import data

FOLDER = Path(data.__file__).parent
LICENCES = {
    name: entry["licence"]
    for name, entry in json.loads((FOLDER / "MANIFEST.json").read_text()).items()
}
NOTICE = (FOLDER / "NOTICE.md").read_text(encoding="utf-8")
# The licences that have to be named with a link wherever the data go.
LINKED = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
}


def section(name: str) -> str:
    return NOTICE.split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem)
def test_every_data_set_has_a_licence_and_a_notice(path):
    assert LICENCES[path.stem].strip()
    assert section(path.stem).strip()


@pytest.mark.parametrize("name", LICENCES)
def test_a_licence_that_asks_for_a_link_has_it_in_the_notice(name):
    for licence, link in LINKED.items():
        if licence in LICENCES[name]:
            assert link in section(name)


def test_the_table_of_chembl_in_the_molecules_is_labelled_as_share_alike():
    assert "CC-BY-SA-3.0 (logD, from ChEMBL)" in LICENCES["molecules"]
    text = section("molecules")
    assert "https://www.ebi.ac.uk/chembl/" in text
    assert "offered under the same licence" in " ".join(text.split())
