"""Optional packages, imported where they are used."""

from importlib import import_module
from types import ModuleType

from mobilesam.errors import MissingPackageError


def require(name: str, *, extra: str | None = None) -> ModuleType:
    """Import an optional package, or a module of it, by its dotted name.

    If it is not installed, a `MissingPackageError` has the command that installs it, by our `extra` if one has it.
    """
    package = name.partition(".")[0]
    try:
        import_module(package)
        return import_module(name)
    except ImportError as error:
        command = f"pip install 'mobilesam[{extra}]'" if extra else f"pip install {package}"
        raise MissingPackageError(f"{package} must be installed, got {error}. Run: {command}") from error
