"""Whether the images of a trace can be opened, and what becomes of a trace of which one cannot."""

import os
from contextlib import suppress
from dataclasses import replace

from hf_reason.data.images import MARK, ImageError, marks_in, open_image, without_marks
from hf_reason.data.record import RawTrace


def check_images(trace: RawTrace, keep: bool = False) -> tuple[RawTrace, str]:
    """Open the images of a trace.

    A file that was cut short opens and breaks off in the middle, so that all of it is decoded.

    Args:
        trace: With images.
        keep: Whether a trace stays without those of its images that cannot be used.

    Returns:
        The trace, and what is wrong with its images; empty if nothing is.
    """
    faults, count = dict(trace.image_faults), len(trace.images)
    for place, image in enumerate(trace.images):
        if place not in faults:
            try:
                open_image(image).close()
            except ImageError as error:
                # reports name no place of this machine
                path = str(image["path"] or "")
                faults[place] = str(error).replace(path, os.path.basename(path)) if path else str(error)
    places = marks_in(f"{trace.context}\n{trace.task}")
    if places not in (0, count):
        said = f"{count} {'image' if count == 1 else 'images'}, and {places} times {MARK} in the text."
        return (_without(trace, dict.fromkeys(range(count), said)) if keep else trace), said
    if not faults:
        return trace, ""
    return (_without(trace, faults) if keep else trace), next(faults[place] for place in sorted(faults))


def _without(trace: RawTrace, faults: dict[int, str]) -> RawTrace:
    """The trace without some of its images, and their places in its text."""
    left = [place for place in range(len(trace.images)) if place not in faults]
    context, task = trace.context, trace.task
    if not left:
        context, task = without_marks(context), without_marks(task)
    elif marks_in(context):
        parts = iter(context.split(MARK))
        context = next(parts)
        for place, part in enumerate(parts):
            context += (MARK if place in left else "") + part
    captions: list[str] = []
    with suppress(IndexError):
        captions = [trace.captions[place] for place in left]
    images = [trace.images[place] for place in left]
    return replace(trace, context=context, task=task, images=images, captions=captions, image_faults={})
