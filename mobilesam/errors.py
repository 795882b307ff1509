"""One family of errors. Each is also the built-in error that a caller would expect.

Texts read ``<argument> must be <expected>, got <actual>. <what to do>.``
"""


class MobileSamError(Exception):
    """Base of every error that this project raises on purpose."""


class PromptError(MobileSamError, ValueError):
    """A box, point or mask prompt that cannot mean anything."""


class ImageError(MobileSamError, ValueError):
    """An image that cannot be read, or is not an image."""


class NoImageSetError(MobileSamError, RuntimeError):
    """A prediction was asked for before `set_image`."""


class CheckpointError(MobileSamError, RuntimeError):
    """Weights that are not MobileSAM's, or a model that fails its self-test."""


class DownloadError(CheckpointError, OSError):
    """The official weights could not be fetched, or are not the official file."""


class ExportError(MobileSamError, ValueError):
    """A model that cannot be exported as asked, or whose export does not agree with it."""


class FieldError(MobileSamError, ValueError):
    """A dataset field that is missing or has a type that cannot be used."""


class ConflictError(MobileSamError, RuntimeError):
    """Something that was to be changed has been changed or removed by somebody else meanwhile."""


class MissingPackageError(MobileSamError, ImportError):
    """An optional package is needed and is not installed."""


class UnknownModelError(MobileSamError, KeyError):
    """A model of the SAM family that this package does not have."""

    __str__ = Exception.__str__  # KeyError's would quote the text


class AnnotationError(MobileSamError, ValueError):
    """A file of annotations that cannot be read, or an annotation that cannot be used."""


class JobError(MobileSamError, RuntimeError):
    """A job that cannot go on; what is done is kept, and the same call goes on after."""


class UnsupportedError(MobileSamError, NotImplementedError):
    """Something that other tools have and this one does not; the text says what there is instead."""


def reason_of(error: BaseException) -> str:
    """Return what a report says of an error: the text of one of ours, else "TypeName: text"."""
    name, text = type(error).__name__, str(error)
    if not text:
        return name
    return text if isinstance(error, MobileSamError) else f"{name}: {text}"


class NotEnoughTruthError(MobileSamError, ValueError):
    """Too few masks were checked by a person to promise anything about the others."""
