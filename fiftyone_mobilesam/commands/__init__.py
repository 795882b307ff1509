"""Commands of `fiftyone-mobilesam` on the masks of a dataset; those of jobs are in `cli.py`."""
