"""A database server of our own, which may be killed and started again on its folder."""

import importlib.util
import subprocess
from pathlib import Path

from waiting import free_port


class Mongod:
    """FiftyOne's mongod on a folder and a free port; `uri` is for `FIFTYONE_DATABASE_URI`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.uri = f"mongodb://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        program = Path(importlib.util.find_spec("fiftyone").origin).parent / "db" / "bin" / "mongod"
        command = [program, "--dbpath", self.folder, "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        self.process = subprocess.Popen([*command, "--nounixsocket"], stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
