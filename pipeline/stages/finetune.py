"""Retrains a network on images, and makes a classifier of it that is compared and used like any other.

OUT/models/<dataset>-<backbone>/network-<8 hex>/
  checkpoint-<phase>.pt     what an interrupted run goes on from
  history.csv, history.svg  every epoch of all phases
  network.safetensors       the network and its head
  network.json              the card, written last
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from features.devices import resolve_device
from features.locks import locked
from features.squares import Squares
from features.storage import dataset_folder
from features.table.joined import JoinedTable
from features.trunk.loaded import open_network
from features.trunk.spec import RANDOM, NetworkOptions, TrunkOptions
from features.trunk.trunk import cut_trunk
from models.card import Card, load_classifier, read_card, save_classifier
from models.columns.workspace import Workspace
from models.heads.linear import LinearHead
from models.heads.registry import make_head
from models.heads.settings import LinearSettings
from models.networks.classifier import NetworkClassifier
from models.networks.epochs import Epoch
from models.networks.retrain import Retraining, plan_retraining, retrain
from models.networks.settings import FORMER_NETWORK, NETWORK, SCRATCH, RetrainSettings
from pipeline.config import FinetuneConfig, RunConfig
from pipeline.console import accuracy_in_words, detail, remark, warn
from pipeline.stages.heads import Trained, train_heads
from pipeline.stages.opened import Opened, open_images
from pipeline.stages.search import Candidate
from pipeline.stages.tables import extract_table, say_images
from pipeline.stages.training import decode_images, retried_too_late, train, views_in_words


def run_finetune(dataset: str, config: FinetuneConfig) -> Trained:
    """Retrain a network on `dataset`, go on with it, or find it trained."""
    run = config.run
    device = resolve_device(run.device)
    source = open_images(dataset, run)
    loaded = open_network(_weighted(config.network, config.how), seed=run.seed)
    plan = plan_retraining(source, loaded, config.how, seed=run.seed, device=device)
    say_images(source)
    return run_retraining(plan, run)


def plans_beside(opened: Opened, how: RetrainSettings, seed: int) -> dict[str, Retraining]:
    """What is to be retrained beside heads on features, were it this network or that, by its name.

    It is one that is `opened`, unless that has other weights, or ends before the node that its own classifier sees:
    layers that were cut off have none.
    """
    plans = {}
    for network, loaded in zip(opened.trunk.each(), opened.networks, strict=True):
        if how.regime == SCRATCH or loaded.backbone.node not in loaded.nodes:
            loaded = open_network(_weighted(network, how), seed=seed)
        plan = plan_retraining(opened.source, loaded, how, seed=seed, device=opened.device)
        plans[loaded.backbone.name] = plan
    return plans


def _weighted(network: NetworkOptions, how: RetrainSettings) -> NetworkOptions:
    return replace(network, weights=RANDOM) if how.regime == SCRATCH else network


def run_retraining(plan: Retraining, run: RunConfig) -> Trained:
    """Retrain the network, go on with it, or find it trained; its table is what it says of test images."""
    path = network_path(plan, run.out)
    with locked(path.parent):
        done = path.with_suffix(".json").exists()
        if done:
            learnt, _ = load_classifier(path)
            remark("network: reused")
            detail(str(path))
            if run.retry_bad:
                retried_too_late(path.parent)
        else:
            learnt, best = _learn(plan, run, path)
        assert isinstance(learnt, NetworkClassifier)
        test = replace(plan.source, items=plan.source.items[plan.source.items["split"] == "test"])
        # However many are unreadable: whether that is too many was judged before, and the training is not to be lost.
        table = extract_table(test, [learnt.trunk(plan.device)], run, max_bad=1)
        if not done:
            validation = {"accuracy": best.validation_accuracy, "log_loss": best.validation_loss}
            reopen, excluded = plan.loaded.weights.reopen, plan.source.excluded
            save_classifier(learnt, table, path.parent, weights=reopen, validation=validation, excluded=excluded)
    return Trained(head=learnt, card=read_card(path.with_suffix(".json")), path=path, table=table)


def network_path(plan: Retraining, out: Path) -> Path:
    """The file that prediction will read; by its former name where it was trained under that."""
    folder = out / "models" / dataset_folder(plan.source.name, f"-{plan.loaded.backbone.name}")
    (suffix,) = NetworkClassifier.suffixes
    digits = plan.fingerprint[:8]  # of every image: not once for each name
    path, former = (folder / f"{name}-{digits}" / f"{name}{suffix}" for name in (NETWORK, FORMER_NETWORK))
    return former if former.with_suffix(".json").exists() else path


def _learn(plan: Retraining, run: RunConfig, path: Path) -> tuple[NetworkClassifier, Epoch]:
    if not plan.loaded.weights.pretrained and plan.settings["regime"] != SCRATCH:
        warn("random weights: the network has learnt nothing yet, so this is no transfer learning (see --weights)")
    detail(f"training sees {views_in_words(plan.views)}")
    learnt, best = retrain(plan, _Supply(plan, run), partial(train, folder=path.parent))
    remark(f"network: learnt in {learnt.fit_seconds_:.1f} s, {accuracy_in_words(best.validation_accuracy)}")
    detail(f"{learnt.learned_['epochs']} epochs, the best is {best.epoch}, {path}")
    return learnt, best


@dataclass(frozen=True)
class _Supply:
    """What a retraining learns from, each made once and then reused, as other stages make it."""

    plan: Retraining
    run: RunConfig

    def squares(self) -> Squares:
        return decode_images(self.plan.source, self.plan.loaded.recipe, self.run)

    @cached_property
    def table(self) -> JoinedTable:
        loaded = self.plan.loaded.cut(self.plan.loaded.backbone.node)
        trunk = cut_trunk(loaded, TrunkOptions(precision=self.plan.training.precision), self.plan.device)
        return extract_table(self.plan.source, [trunk], self.run)

    def probe(self) -> tuple[LinearHead, Card]:
        weights = self.plan.loaded.weights.reopen
        probe = Candidate(head=make_head(LinearSettings.head, seed=self.plan.seed, device=self.plan.device))
        with Workspace() as workspace:
            heads = train_heads([probe], self.table, workspace, self.run, weights=weights)
        trained = heads[LinearSettings.head]
        assert isinstance(trained.head, LinearHead)
        detail(f"training starts from it, {accuracy_in_words(trained.card.validation['accuracy'])}")
        return trained.head, trained.card
