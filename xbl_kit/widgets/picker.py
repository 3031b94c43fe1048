"""Choosing exemplary explanations by hand: a grid of heat maps in the notebook."""

import warnings
from base64 import b64encode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from io import BytesIO
from math import ceil
from operator import index as as_int
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torchvision.utils import make_grid

from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.explain import normalise, upsample, widened
from xbl_kit.plots import MAP_COLOURS, heat

_COLOURS = (MAP_COLOURS(np.arange(256))[:, :3] * 255).round().astype(np.uint8)
_MARKS = {"good": ("#0072b2", "\N{CHECK MARK}"), "bad": ("#c24e00", "\N{MULTIPLICATION X}")}


class ExemplarPicker(anywidget.AnyWidget):
    """A grid of n images under their Grad-CAM maps, to pick one good and one bad explanation.

    `cams` stay raw and reach the exemplar unchanged. `index` holds the row numbers that `good` and
    `bad` speak of: one each or None, tuples of them with `several`. No row is both; the later pick
    wins. `share` is the share of each map inside the lungs (NaN: empty map), `confidence` that of
    the prediction; `thumbnail` is in pixels. `exemplar` holds what is picked.

    Raises ValueError for inputs that do not fit, TraitError for a pick that is no row.
    """

    _esm = Path(__file__).with_name("picker.js")
    _css = Path(__file__).with_name("picker.css")

    # Not `Any`, which lets None past the check below.
    good = traitlets.TraitType(None).tag(sync=True)
    bad = traitlets.TraitType(None).tag(sync=True)
    # Sent once: the images as one JPEG sheet, the maps as 8 bits at the size of the features.
    _sheet = traitlets.Bytes().tag(sync=True)
    _maps = traitlets.Bytes().tag(sync=True)
    _colours = traitlets.Bytes(_COLOURS.tobytes()).tag(sync=True)
    _rows = traitlets.Dict().tag(sync=True)
    # What came of saving, for who sees the page alone.
    _said = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        images: Float[Tensor, "n 1 h w"],
        cams: Float[Tensor, "n p q"],
        *,
        index: Int[Tensor, " n"],
        label: Int[Tensor, " n"],
        predicted: Int[Tensor, " n"],
        classes: Sequence[str],
        share: Float[Tensor, " n"] | None = None,
        confidence: Float[Tensor, " n"] | None = None,
        several: bool = False,
        thumbnail: int = 96,
        folder: str | Path | None = None,
    ):
        columns = dict(index=index, label=label, predicted=predicted)
        columns |= {"share": share, "confidence": confidence}
        _check_columns(columns | {"images": images, "cams": cams}, len(classes))
        self._images, self._cams = (widened(each.detach().cpu()) for each in (images, cams))
        self._index, self._label, self._predicted = index, label, predicted
        self._several, self._classes, self._folder = several, tuple(classes), folder
        self._at = {row: i for i, row in enumerate(index.tolist())}
        sheet, across = _image_sheet(self._images)
        super().__init__(
            good=self._value(()),
            bad=self._value(()),
            _sheet=sheet,
            _maps=_eight_bits(normalise(self._cams.clamp_min(0))).numpy().tobytes(),
            _rows={name: _plain(values) for name, values in columns.items()}
            | {"classes": list(self._classes), "several": several, "thumbnail": thumbnail}
            | {"saves": folder is not None}
            | {"image": list(images.shape[2:]), "map": list(cams.shape[1:]), "across": across},
        )
        if folder is not None:
            self.on_msg(self._save)

    @property
    def exemplar(self) -> Exemplar:
        """The picks as a record to refine a model with; ValueError while one is missing."""
        picks = {side: self._picked(side) for side in ("good", "bad")}
        missing = [side for side, rows in picks.items() if not rows]
        if missing:
            raise ValueError(
                f"no {' and no '.join(missing)} explanation picked yet: focus a thumbnail and "
                "press g (good) or b (bad), or set picker.good and picker.bad to row numbers"
            )
        return Exemplar(**{side: self._explained(rows) for side, rows in picks.items()})

    def _save(self, widget, content: dict, buffers) -> None:
        """Save the picks under the name that was typed, and say where they are, or why not."""
        try:
            with warnings.catch_warnings(record=True, action="always") as others:
                path = self.exemplar.save_as(content["name"], self._folder)
            there = "; there is another file of that name, which stays" if others else ""
            self._said = f"Saved as {path}{there}"
        except (OSError, ValueError) as error:
            self._said = f"Not saved: {error}".partition(", or set picker.")[0]  # no Python here

    @traitlets.validate("good", "bad")
    def _check_pick(self, proposal):
        side, value = proposal["trait"].name, proposal["value"]
        rows = value if self._several and _is_list(value) else [] if value is None else [value]
        return self._value(tuple(dict.fromkeys(self._check_row(side, row) for row in rows)))

    @traitlets.observe("good", "bad")
    def _move(self, change):
        """A row that has become good is bad no longer, and the reverse."""
        other = "bad" if change["name"] == "good" else "good"
        new = self._picked(change["name"])
        if set(new) & set(self._picked(other)):
            kept = [row for row in self._picked(other) if row not in new]
            setattr(self, other, self._value(tuple(kept)))

    def _value(self, rows: tuple[int, ...]) -> tuple[int, ...] | int | None:
        """Rows as `good` and `bad` hold them."""
        return rows if self._several else next(iter(rows), None)

    def _picked(self, side: str) -> tuple[int, ...]:
        value = getattr(self, side)
        return value if self._several else () if value is None else (value,)

    def _check_row(self, side: str, value) -> int:
        with suppress(TypeError):
            if not isinstance(value, bool) and (row := as_int(value)) in self._at:
                return row
        some = ", ".join(map(str, list(self._at)[:5])) + (", ..." if len(self._at) > 5 else "")
        hint = "; for lists of rows: ExemplarPicker(..., several=True)" if _is_list(value) else ""
        raise traitlets.TraitError(
            f"{side}: {value!r} is no row of this picker; expected one of its {len(self._at)} "
            f"rows ({some}){hint}"
        )

    def _explained(self, rows: tuple[int, ...]) -> Explained:
        at = [self._at[row] for row in rows]
        index, label = self._index[at], self._label[at]
        return Explained.of(self._images[at], self._cams[at], index, label, self._classes)

    def _repr_mimebundle_(self, **kwargs):
        """The live widget, and a still picture for wherever no kernel runs."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": self._still()}, metadata

    def _still(self) -> str:
        picks = {row: side for side in ("good", "bad") for row in self._picked(side)}
        spread = np.linspace(0, len(self._at) - 1, min(12, len(self._at))).astype(int)
        others = [row for row in self._index[spread].tolist() if row not in picks]
        rows = [*picks, *others][: max(12, len(picks))]
        lines = [f"{_MARKS[side][1]} {side}: {self._describe(row)}" for row, side in picks.items()]
        said = "; ".join(lines) or "nothing picked yet"
        source = b64encode(self._still_png(rows, picks)).decode()
        shown, said = f"{len(rows)} of {len(self._at)}", escape(said)
        return (
            f'<figure style="margin:0"><img src="data:image/png;base64,{source}" '
            f'style="max-width:100%" alt="{shown} chest X-rays under their heat maps; {said}">'
            f"<figcaption><b>Exemplar picker</b> ({shown} explanations), when this cell ran: "
            f"{said}.<br>Run the cell to pick.</figcaption></figure>"
        )

    def _describe(self, row: int) -> str:
        at = self._at[row]
        label, predicted = self._classes[self._label[at]], self._classes[self._predicted[at]]
        return f"row {row}, {label}, predicted {predicted}"

    def _still_png(self, rows: list[int], picks: dict[int, str], limit: int = 60_000) -> bytes:
        """Thumbnails with the picks framed, as large as `limit` bytes allow."""
        at = [self._at[row] for row in rows]
        for size in (96, 80, 64, 48, 32):
            step = size + 6
            sheet = Image.new("RGBA", (6 * step, -(-len(rows) // 6) * step))  # clear, for any page
            for i, tile in enumerate(_overlaid(self._images[at], self._cams[at], size)):
                side = picks.get(rows[i], "")
                colour = _MARKS[side][0] if side else "#0000"
                framed = ImageOps.expand(Image.fromarray(tile).convert("RGBA"), 3, colour)
                ImageDraw.Draw(framed).text((5, 3), side, "white")
                sheet.paste(framed, (i % 6 * step, i // 6 * step))
            png = BytesIO()
            sheet.quantize(256, Image.Quantize.FASTOCTREE).save(png, "PNG", optimize=True)
            if len(png.getvalue()) <= limit:
                break
        return png.getvalue()


def _check_columns(columns: dict[str, Tensor | None], classes: int) -> None:
    sizes = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"a picker needs one or more images, and as many of all else; got {found}")
    if columns["index"].unique().numel() < len(columns["index"]):
        raise ValueError("index: a row number comes twice, so a pick would not say which image")
    for name in ("label", "predicted"):
        least, most = columns[name].min().item(), columns[name].max().item()
        if least < 0 or most >= classes:
            raise ValueError(f"{name}: {least} to {most}, expected 0 to {classes - 1}: see classes")


def _plain(values: Tensor | None) -> list | None:
    """Numbers that JSON can carry: it knows no NaN."""
    if values is None:
        return None
    return [None if value != value else round(value, 4) for value in values.tolist()]


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


def _eight_bits(values: Tensor) -> Tensor:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _image_sheet(images: Float[Tensor, "n 1 h w"]) -> tuple[bytes, int]:
    """All images side by side in one JPEG, and how many stand in a row of it.

    JPEG makes 5 MB (300 images of 128 px) some 1.3, which counts where the kernel is far away; the
    exemplar is taken from the tensors, not from here.
    """
    across, jpeg = ceil(len(images) ** 0.5), BytesIO()
    sheet = make_grid(_eight_bits(images), nrow=across, padding=0)[0]
    Image.fromarray(sheet.numpy()).save(jpeg, "JPEG", quality=88)
    return jpeg.getvalue(), across


def _overlaid(images: Tensor, cams: Tensor, size: int) -> np.ndarray:
    """The heat maps over their images, (k, size, size, 3) uint8, as the browser draws them."""
    grey = torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    above = heat(upsample(normalise(cams.clamp_min(0)), (size, size)).numpy())
    colour, alpha = above[..., :3], above[..., 3:]
    return (255 * (grey[:, 0, ..., None].numpy() * (1 - alpha) + colour * alpha)).astype(np.uint8)
