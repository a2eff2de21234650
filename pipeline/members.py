"""What the ensemble blends: models, or each view of a model for itself; and what these are called.

A view is a changed copy of an image, mirrored or of another size, whose map is changed back. Where a model's views are
stored apart (``prediction.views: separate``), each is a member of the ensemble like a model of its own. A member's
name is the model's, with the view's behind it unless that is the image as it is:

>>> [member_name("unet", view) for view in view_names((1.0, 0.875), flip=True)]
['unet', 'unet@mirrored', 'unet@0.875', 'unet@0.875-mirrored']
>>> split_member("unet@0.875-mirrored")
('unet', '0.875-mirrored')
"""

from __future__ import annotations

from collections.abc import Sequence

AS_IT_IS = ""
"""The view that changes nothing."""

_SEPARATOR = "@"  # which models' names have none of


def view_names(scales: Sequence[float], flip: bool) -> tuple[str, ...]:
    """The views in the order in which they are predicted: copies of each size, followed by their mirror images."""
    sizes = [AS_IT_IS if scale == 1 else f"{scale:g}" for scale in scales]
    sides = ("", "mirrored") if flip else ("",)
    return tuple("-".join(filter(None, (size, side))) for size in sizes for side in sides)


def member_name(model: str, view: str) -> str:
    """The name of a model's view as a member of the ensemble."""
    return f"{model}{_SEPARATOR}{view}" if view else model


def split_member(name: str) -> tuple[str, str]:
    """The model and the view of a member."""
    model, _, view = name.partition(_SEPARATOR)
    return model, view
