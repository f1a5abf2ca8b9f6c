"""Any picture as the square frame that a reward function takes, its proportions kept."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def square_frame(picture: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Pad the shorter side of uint8 RGB (H, W, 3) with its top left colour, and average down to (pixels, pixels, 3)."""
    canvas = _square(Image.fromarray(np.ascontiguousarray(picture)))
    return np.array(canvas.resize((pixels, pixels), Image.Resampling.BOX))


def _square(picture: Image.Image) -> Image.Image:
    """Pad the shorter side with the picture's top left colour, the picture in the middle."""
    side = max(picture.size)
    if picture.size == (side, side):
        return picture
    padded = Image.new("RGB", (side, side), picture.getpixel((0, 0)))
    padded.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return padded
