"""Variants of the losses, as a person writes them: `semivariogram:beta_hard=0,beta_false=3`."""

from pydantic import ValidationError

from stages.cli import InputError
from stages.params import Train
from stages.train.losses import LOSSES


def parse_variant(text: str, p: Train) -> tuple[str, Train]:
    """The loss of a variant, and the params of training with the variant's values in that loss's section.

    Raises InputError for a loss or a key that is not known and for a value that breaks its rule.
    """
    loss, _, changes = text.partition(":")
    if loss not in LOSSES:
        raise InputError(f"variant '{text}': loss '{loss}' is not known; choose one of: {', '.join(LOSSES)}")
    own = getattr(p, loss)
    values = own.model_dump()
    for change in filter(None, changes.split(",")):
        key, _, value = change.partition("=")
        if key not in values:
            known = ", ".join(values) or "none"
            raise InputError(f"variant '{text}': '{key}' is not a param of {loss}; its params: {known}")
        try:
            values[key] = float(value)
        except ValueError:
            raise InputError(f"variant '{text}': '{value}' is not a number; write {key}=1.5") from None
    try:
        return loss, p.model_copy(update={loss: type(own).model_validate(values)})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"variant '{text}': {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
