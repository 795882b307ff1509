"""Optional packages, imported where they are used."""

import importlib
from types import ModuleType

from mobilesam.errors import MissingPackageError


def require(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingPackageError: it is not installed; the text has the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise MissingPackageError(
            f"Exporting needs the package {package}. Install it: pip install {package}"
        ) from error
