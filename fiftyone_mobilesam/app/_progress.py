"""Long work in the App: in a thread, with a progress bar and a button that stops it.

FiftyOne ends an ordinary operator after 600 s. A generator may go on, and what it yields reaches the App at once.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import fiftyone as fo
from fiftyone import operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types
from pymongo.errors import PyMongoError

from fiftyone_mobilesam.app._names import uri
from fiftyone_mobilesam.app._stops import stoppable
from fiftyone_mobilesam.app.recorded_run import Progress
from fiftyone_mobilesam.engine.report import RunStopped
from mobilesam.errors import reason_of

# FiftyOne puts "Done" below whatever is shown, and shows a window again with each message.
GOES_ON = "'Done' hides this window until the next news. It does not stop the run; the result will be shown here."
_bars, _running, _bars_before = threading.Lock(), 0, True


class LongOperator(foo.Operator):
    """An operator whose work takes a while, wherever it is called from.

    Attributes:
        work: is called with samples, keywords, `on_progress` and `stop`, and returns a summary, JSON serializable.
        show: makes the App's output of the summary.
        after_error: what is said of the data after a run that an error ended.
    """

    work: Callable[..., dict[str, Any]]
    show: Callable[[dict[str, Any]], types.Property]
    after_error = "What was done before is kept; 'Undo a MobileSAM run' takes it back."

    def target(self, ctx: Any) -> SampleCollection:
        """Return the samples that a request is about."""
        return ctx.target_view(require_flat=True)

    def read(self, samples: SampleCollection, params: dict[str, Any], ctx: Any = None) -> dict[str, Any]:
        """Return the keywords of `work` that a filled form means; `ctx` is None if it is called from Python."""
        raise NotImplementedError

    def execute(self, ctx: Any) -> Any:
        """Do the work. Returns the summary; for the App a generator of progress and result."""
        samples = self.target(ctx)
        work = partial(self.work, samples, **self.read(samples, ctx.params, ctx))
        if ctx.delegated:
            return work(on_progress=lambda progress: ctx.set_progress(*progress))
        if "operator_uri" not in ctx.request_params:  # which only the App sends
            return work()
        return _streamed(ctx, work, self.show, self.after_error)

    def __call__(self, samples: SampleCollection, *, delegate: bool = False, **params: Any) -> Any:
        """Do the work from Python.

        Args:
            samples: dataset or view.
            delegate: leave the work to `fiftyone delegated launch`.
            **params: as the form has them, such as `prompt_field="detections"`, `label_field="masks"`, or
                `detector="yolo11n.pt"`.

        Returns:
            The summary, see `fiftyone_mobilesam.app.recorded_run.segment` and `recipe.detect_then_segment`; if
            delegated FiftyOne's result, or in a notebook its task, to be awaited.
        """
        if delegate:
            view = samples.view()
            return foo.execute_operator(uri(self.name), {"view": view}, params=params, request_delegation=True)
        return self.work(samples, **self.read(samples, params))


def _streamed(
    ctx: Any, work: partial, show: Callable[[dict[str, Any]], types.Property], after_error: str
) -> Iterator[Any]:
    # Nobody stops the thread if the browser goes away: the run ends by itself and is recorded.
    token, event, news, here = uuid4().hex, threading.Event(), queue.SimpleQueue(), ExitStack()
    here.enter_context(stoppable(token, event))  # before the button can be pressed

    def target() -> None:
        try:
            with here, _without_console_bars():
                news.put(work(on_progress=news.put, stop=event))
        except BaseException as error:  # or the App would wait for ever
            news.put(error)

    threading.Thread(target=target, daemon=True).start()
    yield _show_progress(ctx, token, "Loading the model ...", 0.0)
    while isinstance(message := _latest(news), Progress):
        text = "Stopping after this image ..." if event.is_set() else message.text
        yield _show_progress(ctx, token, text, message.done)
    yield ctx.trigger("reload_dataset")
    if ctx.current_sample:  # an open sample shows new fields only when it is opened again
        yield ctx.ops.close_sample()
        yield ctx.ops.open_sample(id=ctx.current_sample)
    if isinstance(message, BaseException):
        yield ctx.ops.show_output(_show_error(message, after_error).to_json(), {})
    else:
        yield ctx.ops.show_output(show(message).to_json(), message)


@contextmanager
def _without_console_bars() -> Iterator[None]:
    """Switch the console's bars off while runs are going on: they capture stdout, and two at once break each other."""
    global _running, _bars_before
    with _bars:
        if not _running:
            _bars_before, fo.config.show_progress_bars = fo.config.show_progress_bars, False
        _running += 1
    try:
        yield
    finally:
        with _bars:
            _running -= 1
            if not _running:
                fo.config.show_progress_bars = _bars_before


def _latest(news: queue.SimpleQueue) -> Any:
    """Wait for news, and return the latest if there are several."""
    message = news.get()
    while isinstance(message, Progress) and not news.empty():
        message = news.get()
    return message


def _show_progress(ctx: Any, token: str, text: str, done: float) -> Any:
    """Show how far a run is; as text alone before the first image, as the App draws a bar of 0 as a full one."""
    outputs = types.Object()
    if done:
        outputs.float("progress", view=types.ProgressView(label=text))
    else:
        outputs.md(text, name="text")
    outputs.btn("stop", label="Stop and keep what is done", on_click=uri("stop_run"), params={"token": token})
    outputs.md(GOES_ON, name="goes_on")
    schema = types.Property(outputs, view=types.View(label="MobileSAM is running"))
    return ctx.ops.show_output(schema.to_json(), {"progress": done})


def _show_error(error: BaseException, after_error: str) -> types.Property:
    reason = "Stopped" if isinstance(error, RunStopped) else reason_of(error).rstrip(".")
    if isinstance(error, PyMongoError):
        reason = (
            f"The database did not answer or could not write: {str(error)[:200]}. "
            "Check that it runs and that its disk has room, then start again"
        )
    text = f"{reason}. {after_error}"
    outputs = types.Object()
    outputs.view("error", types.Error(label="The run ended early", description=text))
    return types.Property(outputs)
