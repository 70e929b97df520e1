"""Data of benchmarks wherever it lies: JSON as everywhere here, and tables as their releases and the hub have them."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import cast

from tureen_training.data.jsonl import SUFFIXES, BadData, Fields, records

TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
HUB = "hf://datasets/"


def local(data: str) -> Path:
    """The directory of `data`, fetched from the Hugging Face hub where it begins with hf://datasets/.

    Raises:
        ValueError: no OWNER/NAME behind hf://datasets/. OSError: the hub does not give it.
        NotADirectoryError: it is none.
    """
    if not data.startswith("hf://"):
        directory = Path(data)
        if not directory.is_dir():
            what = "is a file" if directory.exists() else "does not exist"
            raise NotADirectoryError(
                f"data is {data!r}, which {what}; give the directory that holds the suite's files, "
                f"or {HUB}OWNER/NAME"
            )
        return directory
    from huggingface_hub import snapshot_download

    name, _, revision = data.removeprefix(HUB).partition("@")
    if not data.startswith(HUB) or name.count("/") != 1:
        raise ValueError(
            f"data is {data!r}; of the hub give {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION"
        )
    return Path(snapshot_download(name, repo_type="dataset", revision=revision or None))


def find(directory: Path, folder: str, *stems: str) -> Path:
    """The first file called one of `stems`, of any suffix `rows` reads, in the `folder` of a directory or in itself.

    Many a release keeps its files in a folder `data` below that, which is looked into as well.

    Raises:
        FileNotFoundError: none is there.
    """
    inside = directory / folder
    place = inside if inside.is_dir() else directory
    for stem in stems:
        for below in (stem, f"data/{stem}"):
            for suffix in (*SUFFIXES, *TABLES):
                path = place / f"{below}{suffix}"
                if path.is_file():
                    return path
    raise FileNotFoundError(
        f"{place} holds no file {' or '.join(stems)} with any of {', '.join((*SUFFIXES, *TABLES))}; "
        "give the directory that has it"
    )


def stems(split: str) -> tuple[str, ...]:
    """What a split of one file is called: by itself, or as the hub names its Parquet."""
    return split, f"{split}-00000-of-00001"


def rows(path: Path) -> Iterator[Fields]:
    """The records of a file, one by one; of CSV and TSV every field is text.

    Raises:
        BadData: with file and line, of Parquet the row. OSError: the file cannot be read.
    """
    name = path.name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        return _separated(path, "," if name.endswith(".csv") else "\t")
    if name.endswith(".parquet"):
        return _parquet(path)
    return records(path)


def _separated(path: Path, separator: str) -> Iterator[Fields]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        # a TSV of these releases quotes nothing: a quotation mark is one
        quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
        reader = csv.DictReader(file, delimiter=separator, quoting=quoting, strict=True)
        index = -1
        try:
            for index, record in enumerate(reader):
                if None in record or None in record.values():
                    raise BadData(
                        path,
                        reader.line_num,
                        f"the header has {len(reader.fieldnames or ())} columns, this record another number",
                    )
                yield Fields(dict(record), path, reader.line_num, index)
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadData(path, reader.line_num, f"no table: {error}") from None
    if index < 0:
        raise BadData(path, 1, "the table is empty; at least one record is needed")


def _parquet(path: Path) -> Iterator[Fields]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        index = 0
        for batch in file.iter_batches(batch_size=256):
            for record in batch.to_pylist():
                yield Fields(cast("dict[str, object]", record), path, index + 1, index)
                index += 1
    except pyarrow.ArrowInvalid as error:
        raise BadData(path, 1, f"no Parquet file: {error}") from None
