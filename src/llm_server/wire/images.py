"""Images inside request bodies: ``data:`` URLs (RFC 2397) split and written."""

import re

from llm_server.contract import Image

_DATA_URL = re.compile(r"data:(?P<type>image/[A-Za-z0-9.+-]{1,64});base64,")
_SCHEMES = ("http://", "https://")


def image_from_url(url: str, detail: str = "") -> Image | None:
    """Return the image that ``url`` names or, as a base64 ``data:`` URL, contains; else ``None``.

    Other schemes are refused because whoever fetches the image may be led to files and hosts of its own.
    """
    if found := _DATA_URL.match(url):
        return Image(data=url[found.end() :], media_type=found["type"], detail=detail)
    return Image(url=url, detail=detail) if url[:8].lower().startswith(_SCHEMES) else None


def url_of_image(image: Image) -> str:
    """Return the URL that says ``image``, inline data as a ``data:`` URL."""
    return image.url or f"data:{image.media_type};base64,{image.data}"
