"""The custom types that the recorded signatures name; known to both sides."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel


class Colour(Enum):
    RED = "red"
    GREEN = "dark green"


class Place(BaseModel):
    name: str
    zone: int | None = None


class Trip(BaseModel):
    places: list[Place]
    paid: bool = False


CUSTOM_TYPES: dict[str, Any] = {"Colour": Colour, "Place": Place, "Trip": Trip}
