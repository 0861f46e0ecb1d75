"""Rendered pictures as the station's models see them: located, cut out with a margin, shrunk.

The locator and the crop follow src/vision: Otsu's threshold on the luma, the bounding box of what is
brighter, a square of its longer side plus the margin at both ends, edges repeated, Pillow's bilinear
filter (antialiased).
"""
import csv
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from PIL import Image

LABELS = ["good", "scratch", "dent", "contamination", "missing"]
MASK_LABELS = LABELS[1:]
SIZE = 160
MM_PER_PX, MARGIN_MM = 0.12, 4.0
MASK_STEP = 60  # grey levels between classes in the mask files
PAD = 64  # more than the crop can leave the picture by


def otsu(grey):
    """Otsu 1979: the threshold with the largest variance between the two classes."""
    n = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below, total = np.cumsum(n), n.sum()
    mass = np.cumsum(n * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mass[-1] * below / total - mass) ** 2 / (below * (total - below))
    return int(np.nanargmax(between[:-1]))


def locate(rgb):
    """Bounding box (left, top, right, bottom) of the part, in steps of 4 pixels as the station's grid."""
    grey = np.asarray(Image.fromarray(rgb).convert("L"))[::4, ::4]
    on = grey > otsu(grey)
    # Lint on the belt: a row or column counts when a run of the part is in it.
    rows, columns = np.where(on.sum(1) > 3)[0], np.where(on.sum(0) > 3)[0]
    return columns[0] * 4, rows[0] * 4, columns[-1] * 4 + 4, rows[-1] * 4 + 4


def square(box):
    """Middle and side of the square that the station cuts out."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top) + 2 * MARGIN_MM / MM_PER_PX
    return (left + right) / 2, (top + bottom) / 2, side


def through_yuyv(rgb):
    """The picture after a camera's YUYV (BT.601, limited range) and back."""
    r, g, b = (rgb[..., k].astype(np.float32) for k in range(3))
    y = np.round(16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256)
    u = 128 + (-37.945 * r - 74.494 * g + 112.439 * b) / 256
    v = 128 + (112.439 * r - 94.154 * g - 18.285 * b) / 256
    u, v = (np.repeat(np.round((c[:, ::2] + c[:, 1::2]) / 2), 2, 1) - 128 for c in (u, v))
    y = 1.164383 * (y - 16)
    back = np.stack([y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u], -1)
    return np.clip(np.round(back), 0, 255).astype(np.uint8)


def one(folder, jitter, job):
    """The model's input and the class map at its size, for one row of labels.csv."""
    index, row = job
    rgb = np.asarray(Image.open(os.path.join(folder, row["file"])).convert("RGB"))
    classes = np.asarray(Image.open(os.path.join(folder, row["mask"]))) // MASK_STEP
    x, y, side = square(locate(rgb))
    if jitter:
        # What differs on a line: threshold, size of the part, camera format.
        rng = np.random.RandomState(index)
        x, y = x + rng.uniform(-8, 8), y + rng.uniform(-8, 8)
        side *= rng.uniform(0.93, 1.07)
        if rng.rand() < 0.5:
            rgb = through_yuyv(rgb)
    box = [x - side / 2 + PAD, y - side / 2 + PAD, x + side / 2 + PAD, y + side / 2 + PAD]
    pad = lambda a: np.pad(a, [(PAD, PAD), (PAD, PAD)] + [(0, 0)] * (a.ndim - 2), mode="edge")
    shrink = lambda im: np.asarray(im.resize((SIZE, SIZE), Image.BILINEAR, box=box))
    small = shrink(Image.fromarray(pad(rgb)))
    truth = np.zeros((SIZE, SIZE), np.uint8)
    for c in np.unique(classes[classes > 0]):
        truth[shrink(Image.fromarray(pad((classes == c).astype(np.uint8) * 255))) > 110] = c
    return small, truth, LABELS.index(row["label"])


def load(folder, jitter=False, workers=2):
    """Inputs (n, SIZE, SIZE, 3) u8, class maps (n, SIZE, SIZE) u8 and labels (n,); kept in a file beside."""
    cache = os.path.join(folder, f"crops-{SIZE}{'-jitter' if jitter else ''}.npz")
    if os.path.exists(cache):
        z = np.load(cache)
        return z["x"], z["m"], z["y"]
    with open(os.path.join(folder, "labels.csv"), newline="") as f:
        rows = list(csv.DictReader(f))
    with ProcessPoolExecutor(workers) as pool:
        done = list(pool.map(partial(one, folder, jitter), enumerate(rows), chunksize=32))
    x, m, y = (np.stack(a) for a in zip(*done))
    np.savez(cache, x=x, m=m, y=y)
    return x, m, y
