"""How a dataset holds tracks: labels of a sequence, written once no image that is still to come can change them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import fiftyone as fo

from fiftyone_mobilesam.engine.item import LoadedImage, Outcome, failed
from fiftyone_mobilesam.engine.labeller import Labeller
from fiftyone_mobilesam.keep import Prompts, digest
from fiftyone_mobilesam.sinks.form import DatasetForm, as_label
from fiftyone_mobilesam.sources.dataset import DatasetItem
from fiftyone_mobilesam.tracks import Tracker
from mobilesam import ImageError
from mobilesam.errors import reason_of
from mobilesam.propagation import Drift


@dataclass(eq=False)
class TrackForm(DatasetForm):
    """Labels of tracks for a field of a dataset."""

    drift: Drift = field(default_factory=Drift)
    missing: list[str] = field(default_factory=list)  # ids in this sequence that could not be used so far

    def outcomes(
        self, images: Iterable[tuple[DatasetItem, LoadedImage]], labeller: Labeller
    ) -> Iterator[tuple[DatasetItem, Outcome]]:
        """Yield the images of a sequence with their labels, in order."""
        tracker, self.missing = Tracker(labeller.predictor, self.options, self.drift), []
        held: deque[tuple[DatasetItem, Outcome | None]] = deque()  # the outcome of those that failed
        for place, (item, image) in enumerate(images):
            try:
                if image.pixels is None:
                    raise ImageError(image.failure)
                [value] = item.prompts.values()
                tracker.add(item.key, as_label(value), image.pixels)
                held.append((item, None))
            except Exception as error:
                self.missing.append(item.key)
                held.append((item, failed(item, reason_of(error))))
            while held and held[0][0].settled_by <= place:
                item, failure = held.popleft()
                yield item, failure or self._settled(item, tracker)

    def _settled(self, item: DatasetItem, tracker: Tracker) -> Outcome:
        made, began, ended = tracker.settle()
        try:
            return self.written(item, fo.Detections(detections=made), made, tracks=began, ended=ended)
        except Exception as error:
            return failed(item, reason_of(error))

    def fingerprint(self, item: DatasetItem, prompts: Prompts) -> str:
        """Return what names the labels of an item."""
        # If images could not be read this time, the masks here may become others when they can.
        return f"{item.fingerprint}-{digest(self.missing)}" if self.missing else item.fingerprint
