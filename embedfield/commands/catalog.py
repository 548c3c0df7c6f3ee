"""``embedfield catalog``: what there is, whether it is whole, and what else belongs to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfield.commands.console import news, out, progress_of

if TYPE_CHECKING:
    from embedfield.catalog.entry import Entry
    from embedfield.formats.stored import StoredField

catalog = typer.Typer(
    name="catalog",
    help="List the fields of a catalogue, validate it, rebuild it, and register fields made by others.",
    no_args_is_help=True,
)
Root = Annotated[
    str, typer.Option("--catalog", metavar="FOLDER", help="Folder of the catalogue, here or in a bucket: s3://….")
]
HERE = "catalog"


@catalog.command("list")
def list_fields(
    *,
    root: Root = HERE,
    model: Annotated[str | None, typer.Option(help="Fields of this model alone.")] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="W S E N", help="Fields that reach into these bounds, in degrees."),
    ] = None,
    res: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="MIN MAX", help="Fields with pixels from so large to so large, in degrees or metres."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The list as JSON.")] = False,
) -> None:
    """List the fields of a catalogue."""
    import json

    from embedfield.catalog import Catalog

    entries = Catalog(root).entries(model, bounds, res)
    if as_json:
        typer.echo(json.dumps([entry.to_dict() for entry in entries], indent=2, ensure_ascii=False))
    elif entries:
        _print_table(entries)
    elif model is None and bounds is None and res is None:
        news.print(f"{root} is empty. 'embedfield build --model geoclip --res 1 --out {root}' makes a first field.")
    else:
        news.print(f"{root} has no such field. Leave out --model, --bounds or --res to see the others.")


def _print_table(entries: list[Entry]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "field", "west south east north", "pixels", "bands", "dtype", "size", "grade"):
        right = heading in {"pixels", "bands", "size"}
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "west south east north")
    for entry in entries:
        table.add_row(*_row(entry))
    out.print(table)


def _row(entry: Entry) -> tuple[str, ...]:
    """Return what the list says of a field."""
    from embedfield.amounts import bytes_text

    edges = " ".join(f"{round(edge, 2):g}" for edge in entry.bounds)
    size = "" if entry.bytes is None else bytes_text(entry.bytes)
    grade = "elsewhere" if entry.foreign else entry.grade or "not verified"
    return entry.model, entry.id, edges, entry.pixel, f"{entry.bands:,}", entry.dtype, size, grade


@catalog.command()
def validate(
    *,
    root: Root = HERE,
    checksums: Annotated[bool, typer.Option(help="Whether every byte is as it was written.")] = True,
) -> None:
    """Check a catalogue, offline: JSON, schemas, links, files, checksums, rasters; and say what is wrong where."""
    from embedfield.catalog import Catalog
    from embedfield.errors import FormatError

    with progress_of("validating", "bytes") as progress:
        faults = Catalog(root).validate(checksums=checksums, progress=progress.count)
    for fault in faults:
        out.print(str(fault))
    if faults:
        raise FormatError(f"{root} has {'a fault' if len(faults) == 1 else f'{len(faults)} faults'}: see above.")
    out.print(f"{root} is whole: {_counted(root)}.")


@catalog.command()
def rebuild(*, root: Root = HERE) -> None:
    """Make collections, catalogue and items.parquet anew, from the fields on the disk alone."""
    from embedfield.catalog import Catalog
    from embedfield.integrity import storage_errors

    with storage_errors(Path(root)):
        faults = Catalog(root).rebuild()
    for fault in faults:
        news.print(str(fault))
    out.print(f"{root}: {_counted(root)}.")


def _counted(root: str) -> str:
    """Return how many fields a catalogue has, in words."""
    from embedfield.catalog import Catalog

    entries, _ = Catalog(root).survey()
    models = len({entry.model for entry in entries})
    fields = "1 field" if len(entries) == 1 else f"{len(entries)} fields"
    return f"{fields} of {'1 model' if models == 1 else f'{models} models'}"


@catalog.command()
def add(
    href: Annotated[str, typer.Argument(metavar="HREF", help="A field, here or at an address; also made by others.")],
    *,
    root: Root = HERE,
    kind: Annotated[
        str | None,
        typer.Option("--as", help="How it is read: alphaearth, tessera, mind or plain.", show_default="found out"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the collection, for a field made by others.")] = None,
    field_id: Annotated[str | None, typer.Option("--id", help="Of its item.", show_default="the file's name")] = None,
    crs: Annotated[str | None, typer.Option(help="Reference system of a file that does not say it.")] = None,
    array: Annotated[str | None, typer.Option(help="Of a Zarr: the array, or its group, such as utm30.")] = None,
    time: Annotated[str | None, typer.Option(help="Of a Zarr with several times: which one, such as 2024.")] = None,
    dims: Annotated[int | None, typer.Option(help="How many numbers of a vector are wanted, the first ones.")] = None,
    landmask: Annotated[str | None, typer.Option(help="Of a TESSERA tile: the raster that says where it is.")] = None,
    title: Annotated[str | None, typer.Option(help="One line about a model of others.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier of the licence of its vectors.")] = None,
    homepage: Annotated[str | None, typer.Option(help="Address of the page that describes it.")] = None,
    preview: Annotated[bool, typer.Option(help="Draw a preview of it.")] = True,
) -> None:
    """Register a field where it lies: AlphaEarth, TESSERA, MIND, any multi-band GeoTIFF or Zarr, or one of ours."""
    from embedfield.catalog import Catalog
    from embedfield.integrity import storage_errors

    asked: dict[str, Any] = {"crs": crs, "array": array, "time": time, "dims": dims, "landmask": landmask}
    asked |= {"title": title, "licence": licence, "homepage": homepage}
    with storage_errors(Path(root)):
        item = Catalog(root).add(
            href, kind=kind, name=name, field_id=field_id, draw=_draw if preview else None, **asked
        )  # fmt: skip
    out.print(item)


def _draw(field: StoredField, folder: Path) -> None:
    """Draw the preview of a registered field beside its item, and keep its colours for others of its collection."""
    from embedfield.pictures.colours import COLOURS
    from embedfield.pictures.preview import colours_of, write_preview

    colours = colours_of(field, folder=folder)
    colours.write(folder / COLOURS)
    write_preview(field, folder / "preview.png", colours)


@catalog.command()
def remove(
    field_id: Annotated[str, typer.Argument(metavar="ID", help="Of a field; 'embedfield catalog list' has them.")],
    *,
    root: Root = HERE,
    delete: Annotated[bool, typer.Option("--delete", help="Its files too, and not its entry alone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Take a field out of a catalogue; its files stay unless they are to be deleted."""
    from embedfield.catalog import Catalog
    from embedfield.integrity import storage_errors

    there = Catalog(root)
    there.check_there()
    folder = there.find(field_id)
    stands = not isinstance(folder, Path) or folder.is_dir()
    gone = stands and (delete or there.is_registered(folder))
    if delete and stands and not yes:
        typer.confirm(f"Delete {folder} and all that is in it?", abort=True, err=True)
    with storage_errors(Path(root)):
        there.remove("/".join(Path(str(folder)).parts[-2:]), delete=delete)
    kept = "" if gone or not stands else f" Its files stay in {folder}."
    out.print(f"{folder.name} is no longer in {root}.{kept}")
