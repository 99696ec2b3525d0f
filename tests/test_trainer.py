from __future__ import annotations

from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from features.sources.registry import open_source
from features.squares import Squares, decode_once
from features.trunk.recipe import normalise
from features.trunk.trunk import Trunk
from models.errors import TrainingError
from models.networks import trainer as trainer_module
from models.networks.epochs import Epoch, Pulse
from models.networks.examples import ImageExamples, random_views
from models.networks.network import Network, add_norms, decayed
from models.networks.settings import WHOLE, TrainingSettings, Views
from models.networks.teacher import distance, taught_features
from models.networks.trainer import Trainer
from tests.conftest import TinyBackbone, make_tiny_trunk

SETTINGS = TrainingSettings(epochs=4, batch_images=8)


@pytest.fixture
def squares(split_photos: Path) -> Squares:
    source = open_source(str(split_photos))
    return decode_once(source, TinyBackbone.recipe, split_photos.parent, max_bad=0, on_images=lambda _: None)


def trainer_of(
    squares: Squares, settings: TrainingSettings = SETTINGS, *, seed: int = 0, teacher: Trunk | None = None
) -> Trainer:
    backbone = TinyBackbone()
    add_norms(backbone.network, seed)
    network = Network(backbone, 3, image_size=16, seed=seed, taught=teacher is not None)
    examples = ImageExamples(squares, Views(), settings.first_size)
    return Trainer(network, examples, settings, seed=seed, teacher=teacher)


def trained(squares: Squares, checkpoint: Path, settings: TrainingSettings = SETTINGS, *, seed: int = 0) -> Trainer:
    trainer = trainer_of(squares, settings, seed=seed)
    trainer.run(checkpoint, lambda _: None, lambda *_: None)
    return trainer


def untimed(history: list[Epoch]) -> list[dict[str, Any]]:
    return [asdict(epoch) | {"seconds": 0, "images_per_second": 0} for epoch in history]


def same(first: Trainer, other: Trainer) -> bool:
    """Whether two networks are the same to the bit."""
    pairs = zip(first.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns(squares: Squares, tmp_path: Path) -> None:
    trainer = trained(squares, tmp_path / "checkpoint.pt", TrainingSettings(epochs=6, batch_images=8))
    assert [epoch.epoch for epoch in trainer.history] == [1, 2, 3, 4, 5, 6]
    assert {epoch.images for epoch in trainer.history} == {36}
    assert trainer.best.validation_accuracy > 0.9
    assert trainer.history[-1].loss < trainer.history[0].loss
    seconds = [epoch.seconds for epoch in trainer.history]
    assert seconds == sorted(seconds)


def test_training_that_begins_with_small_images(squares: Squares, tmp_path: Path) -> None:
    trainer = trainer_of(squares, replace(SETTINGS, epochs=2, first_size=8))
    seen: list[tuple[bool, int]] = []
    assert isinstance(trainer.network, Network)
    trainer.network.trunk.register_forward_pre_hook(
        lambda _, images: seen.append((trainer.network.training, images[0].shape[-1]))
    )
    trainer.run(tmp_path / "checkpoint.pt", lambda _: None, lambda *_: None)
    assert [size for training, size in seen if training] == 5 * [8] + 5 * [16]
    assert {size for training, size in seen if not training} == {16}


def test_training_ends_when_patience_does(squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([(1.0, 0.5), (0.9, 0.75), (0.8, 0.5), (0.7, 0.25), (0.6, 0.9)])
    monkeypatch.setattr(Trainer, "_validate", lambda _: next(scores))
    trainer = trained(squares, tmp_path / "checkpoint.pt", TrainingSettings(epochs=5, batch_images=8, patience=2))
    assert [epoch.epoch for epoch in trainer.history] == [1, 2, 3, 4]
    assert trainer.best.epoch == 2


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_optimizers_are_torchs_own(squares: Squares, tmp_path: Path, optimizer: Literal["sgd", "adam"]) -> None:
    settings = TrainingSettings(
        epochs=1,
        batch_images=36,
        optimizer=optimizer,
        learning_rate=0.01,
        warm_up=0.0,
        weight_decay=0.1,
        precision="fp32",
    )
    backbone = TinyBackbone()
    expected = Network(TinyBackbone(), 3, image_size=16, seed=0).train()
    network = Network(backbone, 3, image_size=16, seed=0)
    trainer = Trainer(network, ImageExamples(squares, WHOLE), settings, seed=0)
    trainer.run(tmp_path / "checkpoint.pt", lambda _: None, lambda *_: None)
    places = squares.places("train")
    images = random_views(squares.read(places), 16, WHOLE, torch.Generator())
    recipe = squares.recipe
    logits = expected(normalise(images, recipe.mean, recipe.std))
    loss = torch.nn.functional.cross_entropy(logits, squares.labels(places), label_smoothing=0.1)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(list(expected.parameters()), trainer_module.LARGEST_GRADIENT)
    groups = decayed(expected, 0.1)
    adam, sgd = torch.optim.AdamW(groups, lr=0.01), torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True)
    step: Any = adam if optimizer == "adam" else sgd
    step.step()
    for name, tensor in expected.named_parameters():
        assert dict(network.named_parameters())[name].detach().numpy() == pytest.approx(
            tensor.detach().numpy(), abs=1e-5
        )


def test_class_weights_weigh_images(squares: Squares, tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=1, batch_images=36, class_weights=True)
    few = replace(squares, items=squares.items.drop(squares.items.index[:9]))
    network = Network(TinyBackbone(), 3, image_size=16, seed=0)
    examples = ImageExamples(few, WHOLE)
    trainer = Trainer(network, examples, settings, seed=0)
    labels, places = examples.labels("train"), few.places("train")
    weights = trainer_module._class_weights(labels)
    recipe = few.recipe
    with torch.no_grad():
        logits = network.train()(
            normalise(random_views(few.read(places), 16, WHOLE, torch.Generator()), recipe.mean, recipe.std)
        )
    losses = torch.stack(
        [
            torch.nn.functional.cross_entropy(one[None], label[None], label_smoothing=0.1)
            for one, label in zip(logits, labels, strict=True)
        ]
    )
    expected = float((weights[labels] * losses).sum() / weights[labels].sum())
    trainer.run(tmp_path / "checkpoint.pt", lambda _: None, lambda *_: None)
    assert trainer.history[0].loss == pytest.approx(expected, rel=1e-4)


def test_rare_classes_count_as_much_as_others() -> None:
    weights = trainer_module._class_weights(torch.tensor(3 * [0] + 12 * [1] + 9 * [2]))
    assert weights.numpy() == pytest.approx([24 / 9, 24 / 36, 24 / 27])


@pytest.mark.parametrize(
    ("examples", "most", "sizes"),
    [(36, 8, [8, 7, 7, 7, 7]), (36, 36, [36]), (9, 8, [5, 4]), (5, 2, [3, 2]), (1, 2, [1])],
)
def test_no_batch_is_larger_than_asked_for_unless_one_example_were_alone(
    squares: Squares, examples: int, most: int, sizes: list[int]
) -> None:
    trainer = trainer_of(squares, TrainingSettings(batch_images=most))
    trainer._labels = trainer._labels[:examples]
    batches = trainer._batches(torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == sizes
    assert sorted(number for batch in batches for number in batch) == list(range(examples))


def test_a_teacher_is_learnt_from(squares: Squares, tmp_path: Path) -> None:
    trainer = trainer_of(squares, replace(SETTINGS, learning_rate=0.01), teacher=make_tiny_trunk())
    assert isinstance(trainer.network, Network)
    assert trainer.teacher
    images = trainer.examples.whole(squares.read(squares.places("train")))

    def away() -> float:
        assert isinstance(trainer.network, Network)
        assert trainer.teacher
        with torch.no_grad():
            predicted = trainer.network.eval().predict_teacher(trainer.network.features(images))
            return float(distance(predicted, taught_features(trainer.teacher, images)))

    before = away()
    trainer.run(tmp_path / "checkpoint.pt", lambda _: None, lambda *_: None)
    assert away() < 0.9 * before


def test_progress_is_told_after_each_step(squares: Squares, tmp_path: Path) -> None:
    pulses: list[Pulse] = []
    trainer_of(squares).run(tmp_path / "checkpoint.pt", pulses.append, lambda *_: None)
    assert [pulse.images for pulse in pulses if pulse.epoch == 2] == [8, 15, 22, 29, 36]
    assert [pulse.share for pulse in pulses] == pytest.approx([step / 20 for step in range(1, 21)])


@pytest.mark.parametrize("stopped_at", [1, 7, 20])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(squares: Squares, tmp_path: Path, stopped_at: int) -> None:
    def interrupt(_: Pulse) -> None:
        if next(steps) == stopped_at:
            raise KeyboardInterrupt

    whole = trained(squares, tmp_path / "whole.pt")
    steps = count(1)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(squares).run(tmp_path / "checkpoint.pt", interrupt, lambda *_: None)
    torch.manual_seed(99)
    resumed = trained(squares, tmp_path / "checkpoint.pt")
    assert untimed(resumed.history) == untimed(whole.history)
    assert same(resumed, whole)


def test_a_finished_run_is_not_trained_again(squares: Squares, tmp_path: Path) -> None:
    first = trained(squares, tmp_path / "checkpoint.pt")
    again = trainer_of(squares)
    again.run(tmp_path / "checkpoint.pt", lambda _: pytest.fail("a step was made"), lambda *_: None)
    assert again.history == first.history
    assert same(again, first)


def test_the_seed_decides_what_is_drawn(squares: Squares, tmp_path: Path) -> None:
    first = trained(squares, tmp_path / "a.pt")
    assert same(trained(squares, tmp_path / "b.pt"), first)
    assert not same(trained(squares, tmp_path / "c.pt", seed=1), first)


def test_training_leaves_the_random_state_alone(squares: Squares, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trained(squares, tmp_path / "checkpoint.pt")
    assert torch.equal(torch.rand(3), expected)


def test_the_best_epoch_is_kept(squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([(1.0, 0.5), (0.9, 0.75), (0.8, 0.75), (0.7, 0.25)])
    states: list[dict[str, torch.Tensor]] = []
    told: list[bool] = []

    def validate(trainer: Trainer) -> tuple[float, float]:
        states.append({name: tensor.clone() for name, tensor in trainer.network.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(Trainer, "_validate", validate)
    trainer = trainer_of(squares)
    trainer.run(tmp_path / "checkpoint.pt", lambda _: None, lambda _, improved: told.append(improved))
    assert trainer.best.epoch == 3
    assert told == [True, True, True, False]
    assert all(torch.equal(states[2][name], tensor) for name, tensor in trainer.network.state_dict().items())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_accuracies_are_exact_so_that_equals_are_equal(squares: Squares, tmp_path: Path, seed: int) -> None:
    little = TrainingSettings(epochs=2, batch_images=8, learning_rate=1e-6)
    trainer = trained(squares, tmp_path / "checkpoint.pt", little, seed=seed)
    images = len(trainer.examples.labels("validation"))
    exact = {right / images for right in range(images + 1)}
    assert {epoch.validation_accuracy for epoch in trainer.history} <= exact


def test_minutes_end_the_schedule_wherever_they_end(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(trainer_module, "perf_counter", lambda: float(next(clock)))  # a second a look
    pulses: list[Pulse] = []
    trainer = trainer_of(squares, TrainingSettings(minutes=20 / 60, batch_images=8))
    trainer.run(tmp_path / "checkpoint.pt", pulses.append, lambda *_: None)
    assert trainer.history[-1].images < trainer.history[0].images == 36
    assert trainer.history[-1].learning_rate < 0.01 < max(epoch.learning_rate for epoch in trainer.history)
    assert trainer.history[-1].seconds == pytest.approx(20, abs=3)
    assert pulses[-1].share == 1


def test_bfloat16(squares: Squares, tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=2, batch_images=8, precision="bf16")
    trainer = trained(squares, tmp_path / "checkpoint.pt", settings)
    assert trainer.precision == "bf16"
    assert {parameter.dtype for parameter in trainer.network.parameters()} == {torch.float32}


def test_a_loss_that_is_no_number(squares: Squares, tmp_path: Path) -> None:
    trainer = trainer_of(squares)
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1: give a lower `learning_rate`"):
        trainer.run(tmp_path / "checkpoint.pt", lambda _: None, lambda *_: None)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("where", ["_step", "_validate"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("[enforce fail] can't allocate memory")])
def test_memory_that_is_too_small(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: RuntimeError
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(Trainer, where, refuse)
    with pytest.raises(
        TrainingError, match=r"8 images of 16 px do not fit the memory of cpu: give fewer `batch_images`"
    ):
        trained(squares, tmp_path / "checkpoint.pt")


def test_memory_that_is_too_small_says_nothing_against_a_checkpoint(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    path = tmp_path / "checkpoint.pt"
    trained(squares, path)
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(TrainingError, match="do not fit the memory of cpu"):
        trained(squares, path)


def test_a_damaged_checkpoint(squares: Squares, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    trained(squares, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"cannot go on from .*checkpoint.pt .*: delete it to train from the start"):
        trained(squares, path)
