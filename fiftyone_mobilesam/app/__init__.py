"""The buttons and panels of FiftyOne's App: one file each, torch only when one is executed."""

from fiftyone_mobilesam.app.detect_then_segment import DetectThenSegment
from fiftyone_mobilesam.app.review_panel import ReviewPanel
from fiftyone_mobilesam.app.review_step import ReviewStep
from fiftyone_mobilesam.app.runs import ReleaseModels, ReviewRun, ShowFailures, ShowRun, StopRun, UndoRun
from fiftyone_mobilesam.app.segment import Segment, SegmentSample
from fiftyone_mobilesam.app.train import Train
from fiftyone_mobilesam.app.use_for_annotation import StopUsingForAnnotation, UseForAnnotation

OPERATORS = (
    Segment,
    SegmentSample,
    DetectThenSegment,
    Train,
    UseForAnnotation,
    StopUsingForAnnotation,
    StopRun,
    ShowRun,
    ShowFailures,
    ReviewRun,
    UndoRun,
    ReleaseModels,
    ReviewStep,
)
PANELS = (ReviewPanel,)
