"""How long a notebook waits for its first ``dbx.optimize``: ``python -m benchmarks.optimize.large.first``.

Cells and genes of the size of STARmap (3,178 x 166, 16 types), in a fresh process; wall and processor seconds.
"""

from __future__ import annotations

import json
import time
import warnings

warnings.simplefilter("ignore")


def timed(run) -> list[float]:
    start = time.perf_counter(), time.process_time()
    run()
    return [round(time.perf_counter() - start[0], 2), round(time.process_time() - start[1], 2)]


def main() -> None:
    import scanpy  # noqa: F401 - a notebook has it already

    found = {"import dbx": timed(lambda: __import__("dbx"))}
    from benchmarks.optimize.large.ground import cells, prepared

    import dbx

    made = []
    found["counts and preparation"] = timed(
        lambda: made.append(prepared(cells(3_178, 0, 166, 16, nested=4, batch_scale=0.2, library_size=100)))
    )
    adata = made[0]
    found["pca"] = timed(lambda: dbx.pp.pca(adata, n_comps=5))
    loss = dbx.losses.CrossEntropy("label")
    for name in ("optimize, first", "optimize, again"):
        found[name] = timed(lambda: dbx.optimize(adata, loss, copy=True))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
