"""What every configuration model has in common: strict types, no unknown keys, immutable."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A configuration model that rejects unknown keys and silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
