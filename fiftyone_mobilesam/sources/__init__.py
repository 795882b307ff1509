"""Where items come from: documents of a dataset, alone or in sequences, a COCO file, a manifest."""
