"""A detector for the tests: finds the orange ellipses of a scene. Listed in the zoo by a manifest of the tests."""

import cv2
import fiftyone as fo
import fiftyone.core.models as fom


class SceneDetectorConfig(fom.ModelConfig):
    """Takes nothing."""

    def __init__(self, d):
        self.confidence_thresh = None


class SceneDetector(fom.Model):
    """Boxes around what is more red than blue."""

    def __init__(self, config):
        self.config = config

    @property
    def media_type(self):
        return "image"

    @property
    def ragged_batches(self):
        return True

    @property
    def transforms(self):
        return None

    @property
    def preprocess(self):
        return False

    def predict(self, arg):
        height, width = arg.shape[:2]
        surface = (arg[..., 0].astype(int) > arg[..., 2]).astype("uint8")
        count, _, stats, _ = cv2.connectedComponentsWithStats(surface)
        boxes = [stats[i, :4] / [width, height, width, height] for i in range(1, count) if stats[i, 4] > 50]
        return fo.Detections(
            detections=[fo.Detection(label="ellipse", bounding_box=list(box), confidence=0.9) for box in boxes]
        )
