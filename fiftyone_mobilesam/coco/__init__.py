"""COCO files: boxes in, masks out, without FiftyOne's database. `job.label_coco` is the entry."""
