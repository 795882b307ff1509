"""Peak memory of a job against the number of its images: it must not grow.

    python benchmarks/soak.py --images 200 2000
    python benchmarks/soak.py --images 5 --size 4000x3000 --boxes 200

Each number runs in a process of its own, on one small picture that is repeated, through `fom.label` into MongoDB. The
peak is that of the whole process, FiftyOne and torch included (`ru_maxrss`); mongod is another process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mongod import Mongod  # noqa: E402


def soak(images: int, boxes: int, size: tuple[int, int]) -> dict:
    """Label a generated dataset; return peak memory and rates."""
    import fiftyone as fo
    from PIL import Image
    from scenes import LEFT, RIGHT, draw_scene

    import fiftyone_mobilesam as fom

    dataset = fo.Dataset()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/scene.jpg"
        Image.fromarray(draw_scene([LEFT, RIGHT])).resize(size).save(path)
        places = [[0.05 + 0.9 * i / boxes, 0.2, 0.9 / boxes, 0.5] for i in range(boxes)]

        def sample(number: int) -> fo.Sample:
            prompts = [fo.Detection(label="a", bounding_box=place) for place in places]
            return fo.Sample(filepath=path, number=number, detections=fo.Detections(detections=prompts))

        dataset.add_samples((sample(number) for number in range(images)), progress=False)
        before = peak()
        report = fom.label(dataset, "detections", "masks", job="soak")
    dataset.delete()
    return {
        "images": images,
        "boxes": boxes,
        "size": size,
        "before_mb": before,
        "peak_mb": peak(),
        "masks": report.masks,
        "images_per_s": round(report.images_per_second, 2),
        "seconds": round(report.seconds, 1),
    }


def peak() -> float:
    """Return this process's peak memory in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--boxes", type=int, default=2)
    parser.add_argument("--size", default="160x120", metavar="WxH")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = tuple(map(int, args.size.split("x")))
    if args.one:
        print(json.dumps(soak(args.images[0], args.boxes, size)), flush=True)
        return
    os.environ |= {"FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_DATABASE_VALIDATION": "false"}
    os.environ["FIFTYONE_LOGGING_LEVEL"] = "ERROR"
    with tempfile.TemporaryDirectory() as folder:
        database, found = Mongod(Path(folder)), []
        os.environ["FIFTYONE_DATABASE_URI"] = database.uri
        for images in args.images:
            words = ["--one", "--images", str(images), "--boxes", str(args.boxes), "--size", args.size]
            output = subprocess.run(
                [sys.executable, "-W", "ignore", __file__, *words], check=True, stdout=subprocess.PIPE
            )
            found.append(json.loads(output.stdout.decode().splitlines()[-1]))
            print(json.dumps(found[-1]), flush=True)
        database.kill()
    if len(found) > 1:
        growth = found[-1]["peak_mb"] / found[0]["peak_mb"] - 1
        print(f"peak of {found[-1]['images']} images against {found[0]['images']}: {growth:+.1%}")


if __name__ == "__main__":
    main()
