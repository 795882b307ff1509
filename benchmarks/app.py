"""What the plugin costs the App: start of the server and each change of view, with the plugin and without.

python benchmarks/app.py [--repeats 30]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fiftyone as fo

ROOT = Path(__file__).resolve().parents[1]


def post(url: str, body: dict) -> None:
    """Send one of the App's requests, and read the answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()


@contextmanager
def serve(plugins: Path, checkout: Path = ROOT) -> Iterator[str]:
    """Start the App's server with a folder of plugins, and give its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "main.py", "--port", str(port), "--address", "127.0.0.1"]
    environment = {**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins), "PYTHONPATH": str(checkout)}
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        command, cwd=Path(fo.__file__).parent / "server", env=environment, stdout=subprocess.DEVNULL, stderr=-3
    )
    try:
        while True:
            try:
                urllib.request.urlopen(url)
                break
            except OSError:
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait()


def measure(plugins: Path, dataset: str, repeats: int) -> dict[str, float]:
    """Start the App's server with a folder of plugins, and time it."""
    start = time.perf_counter()
    with serve(plugins) as url:
        times = {"start of the server, s": time.perf_counter() - start}
        start = time.perf_counter()
        post(f"{url}/operators", {"dataset_name": dataset})
        times["first list of operators, ms"] = 1000 * (time.perf_counter() - start)
        for name, path in (
            ("list of operators, ms", "operators"),
            ("placements at a change of view, ms", "operators/resolve-placements"),
        ):
            seconds = []
            for _ in range(repeats):
                start = time.perf_counter()
                post(f"{url}/{path}", {"dataset_name": dataset})
                seconds.append(time.perf_counter() - start)
            times[name] = 1000 * statistics.median(seconds)
        return times


def main() -> None:
    """Print a table of both, alternating three times, with the least of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    boxes = fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])])
    dataset = fo.Dataset()
    dataset.add_samples([fo.Sample(filepath=f"{number}.jpg", boxes=boxes.copy()) for number in range(1000)])
    dataset.persistent = True
    with tempfile.TemporaryDirectory() as none, tempfile.TemporaryDirectory() as ours:
        (Path(ours) / "mobilesam").symlink_to(ROOT)
        runs = [
            (measure(Path(none), dataset.name, arguments.repeats), measure(Path(ours), dataset.name, arguments.repeats))
            for _ in range(3)
        ]
    dataset.delete()
    print("| | without | with the plugin |\n|---|---|---|")
    for name in runs[0][0]:
        without, with_plugin = (min(run[side][name] for run in runs) for side in (0, 1))
        print(f"| {name} | {without:.2f} | {with_plugin:.2f} |")


if __name__ == "__main__":
    main()
