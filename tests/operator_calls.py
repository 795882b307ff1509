"""Operators called as the App and Python call them, and what they were sent."""

import json

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators.executor import Executor
from scenes import LEFT, RIGHT, ellipse_mask

from fiftyone_mobilesam import host
from fiftyone_mobilesam.replaced import COLLECTION


def run(plugin, name, dataset, *, params=None, **ctx):
    return foo.execute_operator(plugin + name, {"dataset": dataset, **ctx}, params=params or {}).result


def form(plugin, name, dataset, **params):
    """Return the inputs of a form as JSON, by name."""
    ctx = foo.ExecutionContext({"dataset_name": dataset.name, "params": params})
    return foo.get_operator(plugin + name).resolve_type(ctx, "inputs").to_json()["type"]["properties"]


def messages(plugin, name, dataset, **params):
    """Return what the App is sent while an operator runs."""
    request = {"dataset_name": dataset.name, "operator_uri": plugin + name, "params": params}
    ctx = foo.ExecutionContext(request, executor=Executor())
    lines = [message.to_json_line() for message in foo.get_operator(plugin + name).execute(ctx)]
    return [json.loads(line)["body"] for line in lines]


def contents(dataset) -> list[dict]:
    """Return all that a dataset holds, but for the times."""
    dataset.reload()
    return [{k: v for k, v in s.to_dict().items() if k != "last_modified_at"} for s in dataset.iter_samples()]


def drawn(ellipse, **attributes):
    """Return a mask as a person draws it."""
    return fo.Detection.from_mask(ellipse_mask(*ellipse), label="drawn", **attributes)


def draw_truth(dataset):
    """Give the first two of three samples masks that people drew, one of them with an attribute, in `truth`."""
    for sample, labels in zip(dataset, ([drawn(LEFT, by="Ann"), drawn(RIGHT)], [drawn(LEFT)], None), strict=True):
        sample["truth"] = labels and fo.Detections(detections=labels)
        sample.save()
    dataset.add_dynamic_sample_fields()


def kept():
    """Return how many documents there are of what runs replaced."""
    return host.database()[COLLECTION].count_documents({})
