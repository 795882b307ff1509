"""Where outcomes go: the labels of a dataset, a COCO file with a journal beside it, shards."""
