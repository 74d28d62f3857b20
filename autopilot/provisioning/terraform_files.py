"""The Terraform configuration that goes with this Autopilot: what ``autopilot init`` writes to a bundle's ``terraform/``."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import autopilot

FOLDER = "terraform"
"""Of a bundle, in which its configuration is."""


def terraform_files() -> dict[str, bytes]:
    """The text of each file, by its path with slashes below the folder; sorted.

    The wheel has them as data of the package. An editable install reads them where they are written: in the
    repository.
    """
    packaged = resources.files("autopilot.provisioning") / FOLDER
    folder = packaged if packaged.is_dir() else Path(autopilot.__file__).parents[1] / FOLDER
    return dict(sorted(_read(folder).items()))


def own_files(folder: Path) -> dict[str, bytes]:
    """The files of this kind in a bundle; none if there is no such folder."""
    return _read(folder) if folder.is_dir() else {}


def _read(folder: Traversable) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        # What overrides the configuration is a person's own; among the examples it is one.
        if entry.name == "README.md" or (entry.name.endswith(".tf") and not entry.name.endswith("_override.tf")):
            found[entry.name] = entry.read_bytes()
        elif entry.name == "examples" and entry.is_dir():
            found |= {f"examples/{each.name}": each.read_bytes() for each in entry.iterdir() if each.is_file()}
    return found
