"""`Image`: an image as the value of a field."""

from __future__ import annotations

import base64
from typing import Any, Self

from pydantic import ConfigDict, field_validator, model_validator

from dspy_actors.messages import ImagePart, Part
from dspy_actors.types.base import FieldType

_SIGNATURES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"))


class Image(FieldType):
    """An image by address or by content: `Image("https://…")`, `Image("data:image/png;base64,…")`, `Image(data)`.

    Bytes are recognised by their first signs (PNG, JPEG, GIF, WebP, BMP). Making an image reads no file and no
    network; read the file yourself: `Image(path.read_bytes())`. `detail` is the provider's hint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    detail: str | None = None

    def __init__(self, source: Any = None, /, **data: Any) -> None:
        if source is not None:
            data["url"] = source
        super().__init__(**data)

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, data: Any) -> Any:
        return {"url": data} if isinstance(data, (str, bytes)) else data

    @field_validator("url", mode="before")
    @classmethod
    def _as_url(cls, source: Any) -> Any:
        if isinstance(source, bytes):
            return f"data:image/{_kind(source)};base64,{base64.b64encode(source).decode()}"
        if isinstance(source, str):
            source = source.strip()
            if not source.startswith(("http://", "https://", "gs://", "data:")):
                msg = "an image is an http(s) address, a data: URI or bytes; read a file with Path(...).read_bytes()"
                raise ValueError(msg)
        return source

    def to_parts(self) -> tuple[Part, ...]:
        """One image part."""
        return (ImagePart(self.url, self.detail),)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """An image whose address is the whole text."""
        return cls.model_validate(text.strip())


def _kind(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    msg = "these bytes are no PNG, JPEG, GIF, WebP or BMP image; write a data: URI with its media type instead"
    raise ValueError(msg)
