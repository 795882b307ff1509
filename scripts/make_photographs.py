"""Encode the photographs that the package carries, for training not to forget them.

Usage: python scripts/make_photographs.py ../shared/coco50 [--output mobilesam/assets/photographs.npz]
Takes the images whose licence asks for no more than their name: CC BY, no known restrictions, US government.
"""

import argparse
import json
from pathlib import Path

from mobilesam import SamPredictor, load_model
from mobilesam.training.coco import coco_images
from mobilesam.training.examples import encoded
from mobilesam.training.photographs import PHOTOGRAPHS, save_photographs

LICENCES = {4, 7, 8}  # COCO's numbers


def main() -> None:
    """Write the file and name the photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path, help="a folder with instances.json and images/")
    parser.add_argument("--output", type=Path, default=PHOTOGRAPHS)
    args = parser.parse_args()
    file = args.coco / "instances.json"
    licences = {image["file_name"]: image["license"] for image in json.loads(file.read_text())["images"]}
    predictor = SamPredictor(load_model(), fast=True)
    chosen = [one for one in coco_images(file, args.coco / "images", []) if licences[one.name] in LICENCES]
    save_photographs(predictor.model, [encoded(predictor, one) for one in chosen], args.output)
    for one in chosen:
        print(one.name, len(one.objects), "masks, licence", licences[one.name])


if __name__ == "__main__":
    main()
