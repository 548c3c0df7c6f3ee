"""``embedfield build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from embedfield.cluster import check_place
from embedfield.commands.console import news, out, progress_of
from embedfield.commands.options import (
    CardFile,
    Dask,
    Device,
    Dims,
    Inputs,
    Month,
    Name,
    Offline,
    OwnDatabase,
    OwnWeights,
    Year,
    asked_inputs,
    chosen_card,
)


def build(
    *,
    model: Name = None,
    card: CardFile = None,
    res: Annotated[float, typer.Option(help="Side of a pixel, degrees; metres with a --crs.")],
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(
            metavar="W S E N",
            help="Area, in units of the --crs; in degrees W greater than E crosses the antimeridian.",
            show_default="the globe",
        ),
    ] = None,
    crs: Annotated[str, typer.Option(help="Reference system of the pixels, such as EPSG:3035.")] = "EPSG:4326",
    region: Annotated[Path | None, typer.Option(help="A vector file; pixels that do not touch it stay empty.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the region's file, if it has several.")] = None,
    no_mask: Annotated[bool, typer.Option("--no-mask", help="Of the region take only the bounds.")] = False,
    supersample: Annotated[
        int, typer.Option(help="A pixel is the mean of K x K places in it, K from 1 to 16.", metavar="K")
    ] = 1,
    format: Annotated[str, typer.Option(help="cog or zarr.")] = "cog",  # noqa: A002
    dtype: Annotated[
        str, typer.Option(help="uint8 or int16 (packed, one scale and offset a band), float16 or float32.")
    ] = "uint8",
    zarr_layout: Annotated[str, typer.Option(help="sharded, or flat for readers without shards.")] = "sharded",
    zarr_store: Annotated[
        str, typer.Option(help="files, or icechunk: a repository that keeps every build as a commit.")
    ] = "files",
    pca: Annotated[int | None, typer.Option(help="Keep the K strongest principal components.", metavar="K")] = None,
    dims: Dims = None,
    month: Month = None,
    year: Year = None,
    input: Inputs = None,  # noqa: A002
    weights: OwnWeights = None,
    database: OwnDatabase = None,
    device: Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="float64, float32, tf32 or bf16.",
            show_default="the fastest whose error is below a tenth of the packing's",
        ),
    ] = None,
    out_folder: Annotated[
        str, typer.Option("--out", help="Folder of the catalogue; or s3://, gs://, az:// for one in a bucket.")
    ] = "catalog",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another field that stands there.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not hold the raster against the model.")] = False,
    offline: Offline = False,
    dask: Dask = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would make and cost, by a small sample; write nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="With --dry-run: what it would take so many workers of a cluster.", metavar="N"),
    ] = None,
) -> None:
    """Evaluate a model on a grid: a raster, its preview, its certificate and its STAC item.

    A build that was stopped goes on when the same command is given again.
    """
    chosen = chosen_card(model, card)
    asked: dict[str, Any] = {
        "bounds": bounds, "crs": crs, "region": region, "layer": layer, "mask": not no_mask, "supersample": supersample,
        "format": format, "dtype": dtype, "layout": zarr_layout, "zarr_store": zarr_store, "pca": pca, "dims": dims,
        "weights": weights, "database": database, "device": device, "precision": precision, "out": out_folder,
        "overwrite": overwrite, "verify": not no_verify, "offline": offline, "report": news.print,
        **asked_inputs(chosen, month, year, input),
    }  # fmt: skip
    if dask is not None:
        check_place(dask)
    if workers is not None and not dry_run:
        raise typer.BadParameter("--workers N is for --dry-run: a build takes the workers that --dask WHERE has.")
    name = model or chosen.name
    if dry_run:
        with progress_of(f"estimating {name}") as progress:
            from embedfield.estimate import estimate_build

            estimate = estimate_build(chosen, res, workers=workers, step=progress.step, **asked)
        for line in estimate.lines:
            out.print(line)
        return
    with progress_of(f"building {name}") as progress:
        from embedfield.build import build_field  # within, for torch takes a second or two to import

        field = build_field(
            chosen, res, progress=progress.count, step=progress.step, note=progress.note, client=dask, **asked
        )
    out.print(field.path)
