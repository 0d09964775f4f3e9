"""One self-contained HTML page that compares latent spaces: table, correlations, pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
# metric -> what it measures, in reading order
MEANINGS = {
    "purity": "share of epochs in their k-means cluster's main stage",
    "matching_accuracy": "share right when clusters and stages are matched one to one",
    "ari": "clusters against stages, 0 is chance",
    "ami": "clusters against stages by information, 0 is chance",
    "v_measure": "homogeneity and completeness of clusters",
    "cluster_entropy": "bits of stage left within a cluster",
    "silhouette_stage": "how apart stages lie, -1 to 1",
    "silhouette_stage_cosine": "the same by angle",
    "silhouette_kmeans": "how apart clusters lie, whatever they are",
    "davies_bouldin": "spread over distance of stages, low is apart",
    "calinski_harabasz": "between over within stages",
    "compactness": "mean squared distance to the stage's centre",
    "separation": "mean squared distance of stages' centres",
    "compactness_ratio": "the first over the second",
    "auroc_n1_rem": "telling N1 from REM in subjects left out, .5 is chance",
    "subject_leakage": "telling subjects apart in N2, 0 is none",
    "neighbours_same_stage": "cosine distance of neighbours in time, same stage",
    "neighbours_other_stage": "the same at a transition",
    "alignment": "distance of two views of an epoch, 0 is invariant",
    "uniformity": "spread over the sphere, 0 is collapsed, -4 even",
    "lidar": "effective rank of what tells epochs apart",
    "rank_me": "effective rank",
    "alpha_req": "decay of eigenvalues",
    "two_nn": "intrinsic dimension",
    "mean_norm": "mean length of embeddings",
}


def write_latent_page(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    probe: Mapping[str, float],
    correlations: Sequence[Mapping[str, Any]],
    pictures: Sequence[tuple[str, Path]],
) -> Path:
    """Write the page that compares latent spaces; no request leaves it.

    ``rows`` as :func:`probing.latent_report.measure` makes them, ``probe`` macro-F1 by space.
    """
    from jinja2 import Environment, FileSystemLoader

    spaces = list(dict.fromkeys(row["space"] for row in rows))
    by = {(row["space"], row["metric"]): row for row in rows}
    # names of runs are names of folders: anything may be in them
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    environment.filters["figure"] = figure
    page = environment.get_template("latent.html").render(
        # best probe first; controls have no probe of their own and come last
        spaces=sorted(spaces, key=lambda space: -probe.get(space, -1.0)),
        metrics=[m for m in MEANINGS if any((s, m) in by for s in spaces)],
        meanings=MEANINGS,
        by=by,
        probe=probe,
        correlations=correlations,
        pictures=[
            (caption, base64.b64encode(picture.read_bytes()).decode())
            for caption, picture in pictures
        ],
    )
    write_text(path, page)
    return path


def figure(value: float | None) -> str:
    """A value with three digits, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.3f}"
