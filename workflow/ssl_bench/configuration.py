"""What every configuration model has in common: strict types, no unknown keys, immutable."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A configuration model that rejects unknown keys, silent conversions, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
