"""Makes the files beside it: `python -m tests.golden.make`, only where `Head.format` is raised.

They stand for the classifiers that people have kept: later code must read them and say the same of the same rows. But
what is in `first` was made so by commit 7758c95, whose format is not read any more, and
metrics.json is a comparison that commit 7758c95 wrote of 85 small images of noise, one unreadable, one there twice:
`treehead compare --dataset photos --image-size 64 --node features.4,avgpool --heads knn,xgb,linear --max-bad 0.1
--tune 3 --select-node --device cpu --weights random`. Its figures by class were written anew from its
confusion matrices, in the present format, what it says of all nodes is that of one, its mistakes and
what made it are made up, and it was sealed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.card import save_classifier
from models.heads.settings import XgbSettings
from tests.test_heads import toy_table, trees


def main() -> None:
    """Train a few small trees on a toy table, and keep what they say of its first test rows."""
    table = toy_table()
    head = trees(table, XgbSettings(rounds=10, max_depth=3))
    folder = Path(__file__).parent
    save_classifier(head, table, folder, weights="random", validation={"accuracy": 1.0})
    x = table.read("test").x[:30]
    np.savez_compressed(folder / "rows.npz", x=x, probabilities=head.predict_proba(x))


if __name__ == "__main__":
    main()
