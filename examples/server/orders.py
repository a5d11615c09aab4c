"""What a client may ask for, and what it is told otherwise."""

import dataclasses
import json
import math

FIELDS = ("seed", "steps", "labels", "guidance", "count", "format")
FORMATS = ("png", "json")


class BadOrder(ValueError):
    """What is wrong with a request, for the client to read."""


@dataclasses.dataclass(frozen=True)
class Order:
    """A request that has been checked.

    Args:
        seed: int from 0. Image k depends on it and on k alone.
        steps: int from 1.
        labels: tuple of ints, one for each image.
        guidance: float from 0; 1 for none.
        format: "png", all images side by side, or "json", each as PNG in
            base64.
    """

    seed: int
    steps: int
    labels: tuple
    guidance: float
    format: str

    @property
    def count(self):
        return len(self.labels)


def read_order(body, model, most_images, most_steps):
    """Reads the body of a request.

    Args:
        body: bytes, a JSON object.
        model: a `Model`, which knows its classes.
        most_images: int, images that a request may ask for.
        most_steps: int, steps that it may ask for.

    Returns:
        An `Order`.

    Raises:
        BadOrder: it cannot be fulfilled.
    """
    fields = _read_object(body)
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise BadOrder(
            f"Unknown field {_shown(unknown[0])}. Known are "
            f"{', '.join(FIELDS)}."
        )
    most_steps = min(most_steps, model.most_steps)
    answer = fields.get("format", "png")
    if answer not in FORMATS:
        raise _wrong("format", " or ".join(FORMATS), answer)
    return Order(
        seed=_integer(fields, "seed", 0, 0, 2**63 - 1),
        steps=_integer(fields, "steps", min(20, most_steps), 1, most_steps),
        labels=_labels(fields, model, most_images),
        guidance=_guidance(fields, model),
        format=answer,
    )


def _read_object(body):
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        # Also bytes that are no UTF-8, and arrays nested too deeply.
        raise BadOrder("The body must be JSON.") from error
    if not isinstance(fields, dict):
        raise BadOrder('The body must be a JSON object such as {"seed": 1}.')
    return fields


def _labels(fields, model, most_images):
    """A label for each image; zeros for a model without classes."""
    labels = fields.get("labels")
    if not model.takes_labels:
        if labels is not None:
            raise BadOrder("This model has no classes: leave labels out.")
        return (0,) * _integer(fields, "count", 1, 1, most_images)
    most = model.num_classes - 1
    wanted = f"1 to {most_images} numbers of classes, 0 to {most}"
    if isinstance(labels, int):
        # One for all images.
        labels = [labels] * _integer(fields, "count", 1, 1, most_images)
    if not isinstance(labels, list) or not 1 <= len(labels) <= most_images:
        raise _wrong("labels", wanted, labels)
    if not all(_is_integer(x) and 0 <= x <= most for x in labels):
        raise _wrong("labels", wanted, labels)
    if _integer(fields, "count", len(labels), 1, most_images) != len(labels):
        raise BadOrder(
            f"count must be the number of labels, {len(labels)}. Received: "
            f"{fields['count']}."
        )
    return tuple(labels)


def _guidance(fields, model):
    value = fields.get("guidance", 1.0)
    if "guidance" in fields and not model.takes_guidance:
        raise BadOrder("This model cannot be guided: leave guidance out.")
    is_number = _is_integer(value) or isinstance(value, float)
    if not is_number or not 0 <= value <= 100 or not math.isfinite(value):
        raise _wrong("guidance", "a number from 0 to 100, 1 for none", value)
    return float(value)


def _integer(fields, name, default, least, most):
    value = fields.get(name, default)
    if not _is_integer(value) or not least <= value <= most:
        raise _wrong(name, f"a whole number from {least} to {most}", value)
    return value


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(name, wanted, value):
    return BadOrder(f"{name} must be {wanted}. Received: {_shown(value)}.")


def _shown(value):
    """A client's value as JSON, not all of it if it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."
