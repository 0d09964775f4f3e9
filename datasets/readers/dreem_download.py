"""Fetching the Dreem Open Datasets from Zenodo, DOI 10.5281/zenodo.15900394 (MIT).

The buckets that older code names were closed in 2025. The archives have 22 and 36 GB, a record
about 0.9 GB, so records are fetched one at a time.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from datasets.readers.remote_file import BROKEN, RemoteFile
from datasets.readers.remote_zip import fetch, members
from utils.errors import UserError

BASE_URL = "https://zenodo.org/api/records/15900394/files"


def download(raw_path: Path, *, version: str, most: int = 0, base_url: str = BASE_URL) -> None:
    """Fetch what is missing of ``dodh`` or ``dodo``; ``most`` records by id, 0: all.

    Raises:
        UserError: no connection, no such archive, or bytes that are not the archive's.
    """
    url = f"{base_url}/{version}.zip/content"
    raw_path.mkdir(parents=True, exist_ok=True)
    try:
        remote = RemoteFile(url)
    except BROKEN as error:
        raise UserError(f"--download: {url}: {error}; try again later") from error
    records = members(remote, ".h5")
    if not records:
        raise UserError(f"{url}: holds no *.h5 records")
    for member in tqdm(records[: most or None], desc="download", unit="record"):
        fetch(remote, member, raw_path)
