"""Fetching the real Sleep-EDF files from PhysioNet, and checking files against its list."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.files import sha256

BASE_URL = "https://physionet.org/files/sleep-edfx/1.0.0"
_NO_SUBJECT = (39, 68, 69, 78, 79)  # numbers that the cassette study skips
CASSETTE = tuple(subject for subject in range(83) if subject not in _NO_SUBJECT)
N_TELEMETRY = 22


def download(raw_path: Path, *, version: str, study: str, base_url: str = BASE_URL) -> None:
    """Fetch what is missing through MNE's fetcher: checksums on every file, whole files kept.

    MNE knows the telemetry placebo nights only; the temazepam nights are not offered.

    Raises:
        UserError: no connection, or a file that is not the one MNE has the checksum of.
    """
    from mne import set_log_level
    from mne.datasets.sleep_physionet import age, temazepam

    set_log_level("ERROR")
    raw_path.mkdir(parents=True, exist_ok=True)
    todo = []
    if study in ("cassette", "both"):
        subjects = [s for s in CASSETTE if version == "2018" or s < 20]
        # ignore: three subjects have a single night, the recording of the other was lost
        options = {"base_url": f"{base_url}/sleep-cassette", "on_missing": "ignore"}
        todo += [(age.fetch_data, subject, options) for subject in subjects]
    if study in ("telemetry", "both"):
        options = {"base_url": f"{base_url}/sleep-telemetry"}
        todo += [(temazepam.fetch_data, subject, options) for subject in range(N_TELEMETRY)]
    for fetch, subject, options in tqdm(todo, desc="download", unit="subject"):
        try:
            fetch([subject], path=raw_path, **options)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:300]
            raise UserError(
                f"download of subject {subject} from {base_url} failed ({reason}); "
                "the same command continues with what is missing"
            ) from error


def check_against(listing: Path, files: Iterable[Path]) -> None:
    """Compare files with a ``SHA256SUMS.txt`` as PhysioNet ships it, by file name.

    Raises:
        UserError: the list is missing or unreadable, or a file is not in it or differs from it.
    """
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
        known = {
            Path(name).name: digest for digest, name in (line.split(None, 1) for line in lines)
        }
    except (OSError, ValueError) as error:
        raise UserError(f"{listing}: cannot read the checksums --verify needs ({error})") from error
    for path in tqdm(sorted(files), desc="verify", unit="file"):
        if path.name not in known:
            raise UserError(f"{path}: is not in {listing}; remove it or run without --verify")
        if sha256(path) != known[path.name]:
            raise UserError(f"{path}: differs from its checksum in {listing}; fetch it again")
