"""Pages that open from disk: a template and its content to one file that fetches nothing."""

import base64
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.results import write_atomically

TEMPLATES = Path(__file__).parent
THUMBNAIL_PIXELS = 128
"""frames larger than this are shown smaller"""


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Fill a template of this folder, everything escaped, and write it whole or not at all; returns `path`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    write_atomically(path, environment.get_template(template).render(content).encode())
    return path


def data_uri(kind: str, content: bytes) -> str:
    """Bytes of a MIME type as an address that holds them itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(frame: NDArray[np.uint8]) -> str:
    """A frame (P, P, 3) as a PNG inside its own address, smaller where it is larger than `THUMBNAIL_PIXELS`."""
    image = Image.fromarray(frame)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    stream = BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return data_uri("image/png", stream.getvalue())


def settings_in_rows(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, value in words), in their order."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += settings_in_rows(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "not set" if value is None else str(value)))
    return rows
