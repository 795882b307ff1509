"""How good masks are, against COCO ground truth."""
