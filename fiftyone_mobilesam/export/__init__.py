"""Masks of a dataset in files that others read: COCO and YOLO. `run.export_masks` is the entry."""
