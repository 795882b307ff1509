"""The panel "Review masks" in a window of its own: what the browser knows of it, and how it calls it."""

import json

from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_mobilesam.app.review_panel import ReviewPanel
from fiftyone_mobilesam.app.review_step import ReviewStep


class Window:
    """An open panel, and what `js/review_store.js` knows of it: one request for each step, no masks ahead."""

    def __init__(self, dataset, panel_id="panel", **request):
        self.request = {"dataset_name": dataset.name, "dataset_id": str(dataset._doc.id), **request}
        self.panel_id, self.state = panel_id, {}
        self.view, self.card = {}, None

    def call(self, operator, params):
        params = {"panel_id": self.panel_id, "panel_state": self.state, **params}
        ctx = ExecutionContext({**self.request, "params": params}, executor=Executor())
        result = operator().execute(ctx)
        self.requests = [request.to_json() for request in ctx.executor._requests]
        return result, ctx

    def do(self, method, **params):
        """Call a method of the panel, show the mask it starts with, and return all that is seen then, as text."""
        _, ctx = self.call(ReviewPanel, {"__method__": method, **params})
        self.state = json.loads(json.dumps(ctx.panel_state))
        layout = self.requests[-1]["params"]
        properties = find(layout, "properties") or {}
        if "walk" in properties:
            view = properties["walk"]["view"]
            if view["session"] != self.view.get("session"):
                self.view, self.at = view, view["start"]
                self.look()
        else:
            self.view, self.card = {}, None
        return json.dumps(layout)

    def step(self, **params):
        """Send a step and return its answer."""
        sent = {"session": self.view["session"], "field": self.view["field"], "show": self.view["show"], "at": self.at}
        answer, _ = self.call(ReviewStep, {**sent, **params})
        assert json.loads(json.dumps(answer)) == answer
        if "session" in answer and answer["session"] != self.view["session"]:
            self.view = {**self.view, "session": answer["session"], "total": answer["total"]}
            self.at = answer["start"]
        if "total" in answer:
            self.view["total"] = answer["total"]
        return answer

    def look(self):
        """Fetch the mask that is wanted next, past those that are not."""
        while self.at < self.view["total"]:
            self.answer = self.step(want=[self.at])
            self.card = self.answer["cards"][str(self.at)]
            if not self.card.get("gone") and not (self.view["undecided_only"] and self.card["decision"]):
                return
            self.at += 1
        self.card = None

    def press(self, action, **changed):
        """Press a button for the mask on display, go on as the browser does, and return what came of it."""
        keys = ("ref", "decision", "version")
        event = {"action": action} | ({} if action == "undo" else {key: self.card[key] for key in keys})
        answer = self.step(events=[{**event, **changed}])
        if "problem" in answer:
            return answer
        [found] = answer["answers"]
        if "card" in found and (found.get("undone") or found["index"] == self.at):
            self.at, self.card = found["index"], found["card"]
        elif "outside" in found:
            self.look()
        elif action in ("accept", "reject", "delete"):
            self.at += 1
            self.look()
        return {**answer, **found}

    def counts(self):
        return self.step()["counts"]


def find(layout, name):
    """Return the first value of a name, at whatever depth."""
    if isinstance(layout, dict) and name in layout:
        return layout[name]
    inside = layout.values() if isinstance(layout, dict) else layout if isinstance(layout, list) else ()
    return next((found for value in inside if (found := find(value, name)) is not None), None)
