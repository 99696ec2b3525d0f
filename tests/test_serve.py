"""A served classifier: what it says, what it refuses, and that it lives on."""

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from features.errors import DecodeError, OutputError
from features.loop import Batch
from features.outcomes import Reader
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from models.card import load_classifier
from models.trained import TrainedClassifier
from pipeline import cli
from pipeline.classifier_config import ServeConfig
from tests.conftest import COLOURS, EXACT, ROOT, SMALL, Run, called, encoded, make_tiny_trunk, refused, write_images

starlette = pytest.importorskip("starlette", reason="Starlette is not installed: pip install 'treehead[serve]'")
pytest.importorskip("httpx2", reason="httpx2, which Starlette's TestClient asks with, is not installed")

from starlette.testclient import TestClient  # noqa: E402

from pipeline.serve import limits  # noqa: E402
from pipeline.serve.app import Served, make_app  # noqa: E402
from pipeline.serve.batcher import Batcher  # noqa: E402
from pipeline.serve.corrections import Corrections  # noqa: E402
from pipeline.serve.limits import Guarded  # noqa: E402
from pipeline.serve.neighbours import _name  # noqa: E402
from pipeline.serve.run import LOOPBACK, opened  # noqa: E402

PROGRAM = "from pipeline.cli import main; main()"


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees on three colours, with their table, in a folder whose name no answer should have."""
    folder = tmp_path_factory.mktemp("a folder of this machine")
    for colour in COLOURS:
        write_images(folder / "photos" / colour, colour, 40)
    with pytest.MonkeyPatch.context() as patch:
        assert called(cli.app, patch, folder)("xgb", "photos", *SMALL, *EXACT, "--weights", "random") == 0
    return next(folder.glob("artifacts/models/*/xgb-*/xgb.joblib"))


@pytest.fixture(scope="module")
def served(trees: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with opened(trees, ServeConfig(out=tmp_path_factory.mktemp("out"))) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[TestClient]:
    with asking(served) as client:
        yield client


@contextmanager
def asking(served: Served) -> Iterator[TestClient]:
    with TestClient(Guarded(make_app(served), hosts=LOOPBACK), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def photos(trees: Path) -> list[Path]:
    return sorted((trees.parents[4] / "photos").glob("*/*.png"))


def flat_png(side: int, other: int) -> bytes:
    """A PNG file of one colour, which is small however many pixels it has."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = side.to_bytes(4, "big") + other.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    squeeze, row = zlib.compressobj(1), b"\0" * (3 * side + 1)
    rows = b"".join(squeeze.compress(row) for _ in range(other)) + squeeze.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_an_image_is_told_as_in_process(client: TestClient, trees: Path, photos: list[Path]) -> None:
    classifier = TrainedClassifier(*load_classifier(trees))
    for path in photos[::17]:
        expected = classifier.predict_proba_images([path])[0]
        content = path.read_bytes()
        of_form = client.post("/predict", files={"image": (path.name, content)}).json()["images"]
        of_body = client.post("/predict", content=content, headers={"content-type": "image/png"}).json()["images"]
        for (told,), name in ((of_form, path.name), (of_body, "")):
            assert told["image"] == name
            assert list(told["probabilities"]) == list(classifier.classes_)
            np.testing.assert_allclose(list(told["probabilities"].values()), expected, rtol=1e-5)
            assert told["class"] == classifier.classes_[expected.argmax()]


def test_several_images_are_told_in_their_order(client: TestClient, photos: list[Path]) -> None:
    files = [("image", (path.name, path.read_bytes())) for path in photos[::10]]
    files.insert(3, ("image", ("page.html", b"<!doctype html><title>x</title>")))
    images = client.post("/predict", files=files).json()["images"]
    assert [each["image"] for each in images] == [name for _, (name, _) in files]
    assert [each["image"] for each in images if "error" in each] == ["page.html"]
    assert images[3]["error"].startswith("a web page (HTML)")


def test_too_unsure_to_name_a_class(served: Served, photos: list[Path]) -> None:
    with asking(replace(served, least=1.1)) as client:
        (told,) = client.post("/predict", content=photos[0].read_bytes()).json()["images"]
        assert told["class"] is None
        assert sum(told["probabilities"].values()) == pytest.approx(1)
        assert client.get("/health").json()["threshold"] == 1.1


NO_IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "60 megapixels": (lambda: flat_png(10_000, 6_000), "too many pixels (10,000 × 6,000"),
    "10,000 × 10,000 of one colour": (lambda: flat_png(10_000, 10_000), "too many pixels (10,000 × 10,000"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "HTML": (lambda: b"<!doctype html><title>x</title>", "HTML"),
    "nothing": (lambda: b"", "no image came"),
    "zeros": (lambda: b"\0" * 1000, "nothing but zeros"),
    "cut short": (lambda: encoded(Image.new("RGB", (99, 99), "red"), "jpeg")[:-300], "cut short"),
}


@pytest.mark.parametrize("what", NO_IMAGES)
@pytest.mark.parametrize("path", ["/predict", "/nearest", "/correct?label=red"])
def test_what_is_no_image_is_refused_in_a_sentence(client: TestClient, what: str, path: str) -> None:
    make, sentence = NO_IMAGES[what]
    answer = client.post(path, content=make())
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert client.get("/health").json()["status"] == "ready"


def asked(app: Any, headers: dict[str, str], receive: Callable[[], Any]) -> tuple[int, str]:
    """Status and text of the answer to a POST to /predict whose body is what `receive` gives."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1"}
    named = {"host": "localhost", **headers}
    scope |= {"headers": [(name.encode(), value.encode()) for name, value in named.items()]}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode()


def test_a_claim_of_two_gigabytes_is_refused_unread(served: Served) -> None:
    async def receive() -> Any:
        raise AssertionError("the body was read")

    status, text = asked(Guarded(make_app(served), hosts=()), {"content-length": str(2**31)}, receive)
    assert status == 413
    assert "over 67 MB: send fewer images at once" in text


def test_a_body_larger_than_it_may_be_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BYTES", 10_000)
    parts = 0

    async def receive() -> Any:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    status, _ = asked(Guarded(make_app(served), hosts=()), {"transfer-encoding": "chunked"}, receive)
    assert (status, parts) == (413, 11)


def test_a_body_that_does_not_come_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.01)
    status, text = asked(Guarded(make_app(served), hosts=()), {"content-length": "9"}, lambda: asyncio.sleep(3600))
    assert status == 408
    assert "send it again" in text


def test_who_goes_away_is_no_failure(served: Served) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    assert asked(Guarded(make_app(served), hosts=()), {"content-length": "9"}, receive)[0] == 400


def test_bodies_wait_for_room_in_turn() -> None:
    async def main() -> None:
        room, order = limits._Room(10), []

        async def hold(name: str, size: int, until: asyncio.Event) -> None:
            async with room.held(size):
                order.append(name)
                await until.wait()

        first, done = asyncio.Event(), asyncio.Event()
        done.set()
        held = [asyncio.create_task(hold(*each)) for each in (("a", 6, first), ("b", 8, done), ("c", 1, done))]
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["a"]  # c would fit, and does not overtake b
        first.set()
        await asyncio.gather(*held)
        assert order == ["a", "b", "c"]

    asyncio.run(main())


def test_many_at_once_each_get_their_own_answer(
    served: Served, client: TestClient, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, run = [], served.batcher._run

    def counted(readers: Sequence[Reader]) -> Batch:
        sizes.append(len(readers))
        return run(readers)

    monkeypatch.setattr(served.batcher, "_run", counted)
    contents = [path.read_bytes() for path in photos]
    alone = [client.post("/predict", content=content).json() for content in contents]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda content: client.post("/predict", content=content).json(), contents * 3))
    for (first,), (second,) in zip(
        [each["images"] for each in alone * 3], [e["images"] for e in together], strict=True
    ):
        assert second["probabilities"] == pytest.approx(first["probabilities"], abs=1e-4)
    assert sum(sizes) == 4 * len(contents)
    assert max(sizes) > 1


class Broken:
    """A head that fails the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls == 1:
            raise MemoryError
        return np.ones((len(x), 1), np.float32)


def test_threads_outlive_what_fails() -> None:
    content = encoded(Image.new("RGB", (20, 20)))
    with Batcher(Broken(), [make_tiny_trunk()], 1000) as batcher:  # type: ignore[arg-type]
        with pytest.raises(MemoryError):
            batcher.submit(content).result()
        assert batcher.submit(content).result().probabilities.tolist() == [1]
        with pytest.raises(DecodeError, match=r"too many pixels \(40 × 40, over `max_pixels=1000`\)"):
            batcher.submit(encoded(Image.new("RGB", (40, 40)))).result()
        unanswered = [batcher.submit(content) for _ in range(50)]
    assert all(each.done() for each in unanswered)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"host": "evil.example"}, "the name 'evil.example' came"),
        ({"host": "localhost.evil.example:8000"}, "came: ask by one of localhost, 127.0.0.1, ::1"),
        ({"origin": "http://evil.example"}, "a page of"),
        ({"origin": "null"}, "a page of 'null' asked"),
    ],
)
def test_pages_of_others_cannot_ask(client: TestClient, headers: dict[str, str], said: str) -> None:
    answer = client.get("/health", headers=headers)
    assert answer.status_code == 403
    assert said in answer.json()["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_can(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"host": host, "origin": f"http://{host}"}).status_code == 200


def test_a_correction_is_a_label_that_a_data_set_reads(
    served: Served, client: TestClient, photos: list[Path], tmp_path: Path
) -> None:
    with asking(replace(served, corrections=Corrections(tmp_path))) as client:
        for number, path in enumerate([*photos[::40], photos[0]]):
            label = ["red", "green", "blue", "red"][number]
            told = client.post("/correct", files={"image": path.read_bytes()}, data={"label": label}).json()
            assert told["label"] == label
            assert told["images"] == min(number + 1, 3)
    source = open_source(str(tmp_path / "corrected" / "labels.csv"), SourceOptions(), splits=())
    assert len(source.items) == 3
    found = {bytes(source.read(row)): source.classes[source.items["label"][row]] for row in source.items.index}
    expected = zip(photos[::40], ["red", "green", "blue"], strict=True)
    assert found == {path.read_bytes(): label for path, label in expected}


def test_a_correction_of_no_class_of_several_images_or_of_no_form(client: TestClient, photos: list[Path]) -> None:
    content = photos[0].read_bytes()
    said = client.post("/correct?label=mauve", content=content).json()["error"]
    assert said == "the label 'mauve' came: expected one of blue, green, red"
    said = client.post("/correct", files={"image": content, "label": content}).json()["error"]
    assert said == "the label '' came: expected one of blue, green, red"
    files = [("image", content), ("image", content)]
    assert client.post("/correct?label=red", files=files).status_code == 400
    assert client.post("/nearest", files=files).json()["error"] == "2 images came: send one"


def test_labels_are_kept_whatever_is_in_them(tmp_path: Path) -> None:
    corrections = Corrections(tmp_path)
    images = [encoded(Image.new("RGB", (9, 9), (number, 0, 0)), kind) for number, kind in enumerate(("png", "jpeg"))]
    labels = ['a, "b"', "=c"]
    names = [corrections.keep(content, label)[0] for content, label in zip(images, labels, strict=True)]
    assert [Path(name).suffix for name in names] == [".png", ".jpg"]
    source = open_source(str(tmp_path / "corrected" / "labels.csv"), SourceOptions(), splits=())
    assert [source.classes[label] for label in source.items.sort_values("key")["label"]] == [
        label for _, label in sorted(zip(names, labels, strict=True))
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"1.png,cat\n2.png,dog\n", "begins with ['1.png', 'cat'], expected ['path', 'label']"),
        (b"path;label\n1.png;cat\n", "begins with ['path;label'], expected ['path', 'label']"),
        ("path,label\n1.png,käfer\n".encode("latin-1"), "cannot be read ('utf-8' codec can't decode"),
    ],
)
def test_a_list_of_corrections_that_was_changed_is_left_as_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "corrected").mkdir()
    (tmp_path / "corrected/labels.csv").write_bytes(content)
    with pytest.raises(OutputError, match=re.escape(said)):
        Corrections(tmp_path).keep(encoded(Image.new("RGB", (9, 9)), "png"), "cat")
    assert (tmp_path / "corrected/labels.csv").read_bytes() == content
    assert [path.name for path in (tmp_path / "corrected").iterdir()] == ["labels.csv"]


def test_the_nearest_training_image_is_the_image_itself(served: Served, client: TestClient, photos: list[Path]) -> None:
    assert served.neighbours
    names = set(served.neighbours._images["key"])
    path = next(path for path in photos if f"{path.parent.name}/{path.name}" in names)
    first, *others = client.post("/nearest", content=path.read_bytes()).json()["nearest"]
    assert (first["name"], first["label"]) == (f"{path.parent.name}/{path.name}", path.parent.name)
    assert first["picture"].startswith("data:image/webp;base64,")
    assert len(others) == 5


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("red/1.png", "red/1.png"),
        ("/home/anna/photos/1.png", "1.png"),
        ("../anna/1.png", "1.png"),
        (r"C:\Users\anna\1.png", "1.png"),
        (r"..\anna\1.png", "1.png"),
    ],
)
def test_keys_that_lead_elsewhere_are_told_by_their_last_part(key: str, name: str) -> None:
    assert _name(key) == name


def test_without_the_table_nothing_is_near(served: Served, photos: list[Path]) -> None:
    with asking(replace(served, neighbours=None)) as client:
        assert client.get("/health").json()["nearest"] is False
        assert client.post("/nearest", content=photos[0].read_bytes()).status_code == 404


def test_a_retrained_network_is_served_without_neighbours(
    trees: Path, photos: list[Path], treehead: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--backbone", "resnet18", "--weights", "random", "--image-size", "32", "--epochs", "1")
    assert treehead("finetune", photos[0].parents[1], *options) == 0
    network = next(tmp_path.glob("artifacts/models/*/*/network.safetensors"))
    capsys.readouterr()
    with opened(network, ServeConfig(out=tmp_path)) as served, asking(served) as client:
        assert client.get("/health").json()["nearest"] is False
        (told,) = client.post("/predict", content=photos[0].read_bytes()).json()["images"]
    expected = TrainedClassifier(*load_classifier(network)).predict_proba_images([photos[0]])[0]
    assert list(told["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert "not shown: there is no table of what it learnt from" in capsys.readouterr().err


def test_no_path_of_the_machine_is_told(
    served: Served, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corrected").write_text("in the way")
    content = photos[0].read_bytes()
    with asking(replace(served, corrections=Corrections(tmp_path))) as client:
        answers = [client.get(path) for path in ("/", "/app.js", "/health", "/interface", "/openapi.json", "/x", "/..")]
        answers += [client.post(path, content=content) for path in ("/predict", "/nearest", "/correct?label=red")]
        answers += [client.post(path, content=b"junk") for path in ("/predict", "/nearest", "/correct?label=red")]
    assert answers[9].status_code == 507
    assert str(tmp_path) in capsys.readouterr().err
    for answer in answers:
        for place in (tmp_path, photos[0].parents[2], ROOT):
            assert str(place) not in answer.text + str(answer.headers)


def test_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/app.js", "/engine.js", "/style.css", "/interface"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'; script-src 'self';" in answer.headers["content-security-policy"]
        assert "https://" not in answer.text
    assert "curl -F image=@photo.jpg http://localhost/predict" in client.get("/interface").text


def test_the_interface_describes_what_is_answered(client: TestClient, photos: list[Path]) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/health", "/predict", "/nearest", "/correct"}
    answers = {"/health": client.get("/health").json()}
    answers |= {path: client.post(path, content=photos[0].read_bytes()).json() for path in ("/predict", "/nearest")}
    answers["/correct"] = client.post("/correct?label=red", content=photos[0].read_bytes()).json()
    for path, answer in answers.items():
        (told,) = paths[path].values()
        assert set(told["responses"]["200"]["content"]["application/json"]["schema"]["properties"]) == set(answer)
        assert path in client.get("/interface").text


def test_a_port_that_is_taken(trees: Path, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(treehead, capsys, "serve", trees, "--port", port)
    assert (
        line
        == f"treehead: 127.0.0.1:{port} cannot be listened at (Address already in use): choose another --port or --host"
    )


def test_a_host_that_no_machine_can_be_called(trees: Path, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a..b:8000 cannot be listened at (" in refused(treehead, capsys, "serve", trees, "--host", "a..b")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--port=70000", "--port 70000 is no port"),
        ("--max-pixels=0", "lets no image pass"),
        ("--at-least=2", "between"),
    ],
)
def test_settings_out_of_range(
    trees: Path, treehead: Run, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    assert said in refused(treehead, capsys, "serve", trees, option)


def test_without_the_extra(
    trees: Path, treehead: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pipeline.serve.run", raising=False)
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    line = refused(treehead, capsys, "serve", trees)
    assert line == "treehead: serving needs python_multipart, which is not here: pip install 'treehead[serve]'"


@contextmanager
def running(trees: Path, *options: object) -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    """A server of its own, and a connection to it."""
    command = [sys.executable, "-c", PROGRAM, "serve", trees, "--port", 0, "--out", trees.parents[4] / "out", *options]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            port = int(process.stdout.readline().rpartition(":")[2])
            yield process, http.client.HTTPConnection("127.0.0.1", port)
        finally:
            process.kill()


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_finish(trees: Path, photos: list[Path], number: signal.Signals) -> None:
    content = photos[0].read_bytes()
    with running(trees) as (process, connection):
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        connection.putrequest("POST", "/predict")
        connection.putheader("content-length", str(len(content)))
        connection.endheaders(content[:100])
        while_running = http.client.HTTPConnection("127.0.0.1", connection.port)
        while_running.request("GET", "/health")  # the first request has come by now, which is on an older connection
        while_running.getresponse().read()
        process.send_signal(number)
        while True:  # until it no longer listens
            try:
                socket.create_connection(("127.0.0.1", connection.port)).close()
            except ConnectionError:
                break
        connection.send(content[100:])
        answer = connection.getresponse()
        assert answer.status == 200
        assert b'"probabilities"' in answer.read()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped: what had been asked is answered" in said
    assert "Traceback" not in said


@pytest.mark.servers
def test_whoever_opens_it_to_others_is_told(trees: Path) -> None:
    with running(trees, "--host", "0.0.0.0") as (process, connection):
        connection.request("GET", "/health", headers={"host": "photos.example"})
        assert connection.getresponse().status == 200
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert "! listening at 0.0.0.0: whoever reaches this machine can use the classifier" in said
