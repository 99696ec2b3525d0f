"""Images and tables in a store: memory:// for what any store does, an S3 server on loopback for what S3 does."""

from __future__ import annotations

import http.client
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow.parquet as pq
import pytest

from features import leases, locks, stores
from features.errors import OutputError, SourceError
from features.extract import Extraction, extract
from features.locks import locked
from features.s3 import Store
from features.sources.folders import files_below
from features.sources.layout.tree import scan
from features.sources.registry import open_source
from features.storage import FileRecord, check_writable, mark_results, read_json, remove, replacing, write_json
from features.stores import create, is_remote, listed, name_of, place
from features.table import shard
from features.table.table import FeatureTable
from tests.conftest import ROOT, SMALL, Run, make_tiny_trunk, refused, write_images
from tests.test_extract import contents
from tests.test_extract_killed import SLOW_RUN
from tests.test_hub import write_hub

KEY, SECRET = "AKIAEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"LEAST_IMAGES": 10, "LIKELY_IMAGES": 15, "MOST_IMAGES": 40}.items():
        monkeypatch.setattr(shard, name, count)


@pytest.fixture(autouse=True)
def in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits looks again at once, and each test is told anew that nothing can be locked."""
    monkeypatch.setattr(leases, "LOOKED_AFTER", 0.02)
    locks._say_unlocked.cache_clear()


@pytest.fixture
def memory() -> Path:
    """An empty place in memory."""
    return place(f"memory://test-{uuid4().hex}")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of an S3 server on loopback."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place in a new bucket, by credentials of the environment."""
    _use(server, monkeypatch)
    name = f"bucket-{uuid4().hex}"
    Store().mkdir(name)
    yield place(f"s3://{name}/here")
    Store.clear_instance_cache()


def _use(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**told, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)
    Store.clear_instance_cache()


@dataclass
class Trouble:
    """A proxy before the S3 server: `fate` says of a request, by its method and path, what becomes of it.

    503 and 500 are its answers, `hang` none, `cut` half of one, `gone` that the object is removed first; else it goes
    through. `asked` has all requests.
    """

    server: str
    fate: Callable[[str, str], str] = lambda method, path: ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append((request.command, request.path))
        fate = self.fate(request.command, request.path)
        if fate == "hang":
            time.sleep(2)
        elif fate in ("500", "503"):
            code = {"500": "InternalError", "503": "SlowDown"}[fate]
            content = f"<Error><Code>{code}</Code><Message>Please reduce your request rate.</Message></Error>".encode()
            _send(request, int(fate), {"Content-Type": "application/xml"}, content, len(content))
        else:
            if fate == "gone":
                self._forward("DELETE", request.path, dict(request.headers), b"")
            status, headers, content = self._forward(request.command, request.path, dict(request.headers), body)
            kept = len(content) // 2 if fate == "cut" else len(content)
            length = int(headers.get("Content-Length") or 0) if request.command == "HEAD" else len(content)
            _send(request, status, headers, content[:kept], length)

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        with closing(http.client.HTTPConnection(self.server.removeprefix("http://"))) as connection:
            connection.request(method, path, body, {name: headers[name] for name in headers if name != "Expect"})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()


def _send(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes, length: int) -> None:
    request.close_connection = True
    request.send_response(status)
    for name, value in headers.items():
        if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
            request.send_header(name, value)
    request.send_header("Content-Length", str(length))
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(content)


@pytest.fixture
def trouble(server: str, bucket: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    """The proxy, through which from now on all goes; what has no answer is given up after half a second."""
    proxy = Trouble(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # in which clients ask first whether to send what they have

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = lambda self: proxy.answer(self)  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    serving = threading.Thread(target=running.serve_forever, daemon=True)
    serving.start()
    monkeypatch.setattr(Store, "read_timeout", 0.5)
    monkeypatch.setattr(Store, "attempts", 3)
    monkeypatch.setattr("random.random", lambda: 0.01)  # botocore waits for so much of its back-off
    _use(f"http://127.0.0.1:{running.server_port}", monkeypatch)
    yield proxy
    running.shutdown()
    running.server_close()
    serving.join()


def upload(folder: Path, to: Path) -> Path:
    """All files below a folder, put to a place in a store."""
    for path in filter(Path.is_file, sorted(folder.rglob("*"))):
        with replacing(to / path.relative_to(folder).as_posix()) as scratch:
            scratch.write_bytes(path.read_bytes())
    return to


def run(dataset: Path, root: Path, *, max_bad: float = 0.01) -> Extraction:
    return extract(open_source(str(dataset)), [make_tiny_trunk()], root, max_bad=max_bad, on_images=lambda _: None)


def stored(folder: Path) -> dict[str, bytes]:
    """As `contents`, of a place in a store."""
    return {name: (folder / name).read_bytes() for name in names(folder) if not name.endswith("timing.json")}


def names(folder: Path) -> list[str]:
    """Every file below a place in a store."""
    listed.cache_clear()
    return sorted(f"{path}/{name}".lstrip("/") for path, inside in listed(folder).items() for name, _ in inside)


# What is a place


@pytest.mark.parametrize("text", ["s3://bucket/run", "gs://bucket/run", "hf://datasets/who/what", "memory://run"])
def test_an_address_is_a_place_in_a_store(text: str) -> None:
    if text.startswith("gs"):
        pytest.importorskip("gcsfs")
    there = place(f"{text}/")
    assert is_remote(there)
    assert (str(there), str(there / "x"), there.name) == (text, f"{text}/x", text.rpartition("/")[2])


@pytest.mark.parametrize("text", ["photos", "/photos", "./s3:/photos", "a:b", "C:\\photos"])
def test_all_else_is_a_path(text: str) -> None:
    assert place(text) == Path(text)
    assert not is_remote(place(text))
    assert not is_remote(text)


def test_a_bucket_has_its_name() -> None:
    assert name_of(place("s3://bucket")) == "bucket"


@pytest.mark.parametrize(
    "address", [f"s3://{KEY}:{SECRET}@bucket/x", f"s3://{KEY}@bucket", f"https://me:{SECRET}@host"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SourceError, match="credentials in it came") as refusal:
        place(address)
    assert KEY not in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(SourceError, match="an address of https:// came: expected a path, or a place at s3://"):
        place("https://host/photos")


def test_what_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    with pytest.raises(SourceError, match=r"s3:// needs a package: pip install 'treehead\[s3\]'"):
        place("s3://bucket/photos")


# What is written


def test_files_are_seen_once_they_are_whole(memory: Path) -> None:
    path = memory / "run" / "file"
    with replacing(path) as scratch:
        scratch.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert FileRecord.of(path).fits(path)
    remove(path)
    remove(path)
    assert not path.exists()


def test_a_failure_leaves_what_was_there(memory: Path) -> None:
    path = memory / "file"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError), replacing(path) as scratch:
        scratch.write_bytes("text")  # type: ignore[arg-type]
    assert read_json(path) == {"a": 1}
    assert stored(memory).keys() == {"file"}


def test_results_are_marked(memory: Path) -> None:
    for _ in range(2):
        mark_results(memory / "run")
    assert stored(memory) == {"run/.treehead": b""}


def test_a_store_that_cannot_be_written_to_is_refused(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("read-only\nfor you")

    with stores.asking(memory) as (store, _):
        kind = type(store)
    monkeypatch.setattr(kind, "pipe_file", refuse)
    with pytest.raises(OutputError, match=rf"cannot write to {memory} \(read-only\): choose another `out`"):
        check_writable(memory)
    monkeypatch.setattr(kind, "put_file", refuse)
    with pytest.raises(OutputError, match=rf"cannot write {memory}/file \(read-only\): check the address"):
        write_json(memory / "file", {})


def test_the_hub_is_not_written_to() -> None:
    with pytest.raises(OutputError, match=r"cannot write to hf://datasets/who/what, where each file would be a commit"):
        check_writable(place("hf://datasets/who/what"))


# What is listed


def test_a_store_is_read_as_a_folder_is(tmp_path: Path, memory: Path) -> None:
    files = (
        *("a-b/1.jpg", "a/1.jpg", "a/in/2.png", "a/notes.txt", "a/.hidden/3.jpg", "README", "Thumbs.db", "b/LICENSE"),
        *("b/4.JPG", "run/.treehead", "run/images/5.jpg", "images/6.jpg", "masks/6.png", "c/@eaDir/7.jpg", "c/ä.jpg"),
    )
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    here, there = scan(tmp_path), scan(upload(tmp_path, memory))
    listed.cache_clear()
    assert [key for key, _ in there.top.images_below()] == [key for key, _ in here.top.images_below()]
    assert there.left_out() == here.left_out()
    assert [(each.path, each.images, each.others) for each in there.top.walk()] == [
        (each.path, each.images, each.others) for each in here.top.walk()
    ]


def test_a_changed_object_has_another_stamp(memory: Path) -> None:
    def only() -> str:
        listed.cache_clear()
        ((_, stamp),) = listed(memory)["a"]
        return stamp

    seen = []
    for content in (b"one", b"two"):
        with replacing(memory / "a" / "1.jpg") as scratch:
            scratch.write_bytes(content)
        seen.append(only())
    assert seen[0] != seen[1]


def test_an_empty_place_has_no_images(memory: Path) -> None:
    with pytest.raises(SourceError, match="unknown data set 'memory://"):
        open_source(str(memory))


def test_a_list_names_images_beside_it(photos: Path, memory: Path) -> None:
    upload(photos, memory / "images")
    rows = [f"{colour}/{number:03d},{colour}" for colour in ("red", "blue") for number in range(20)]
    rows += [f"{memory}/images/green/{number:03d}.png,green" for number in range(20)]
    with replacing(memory / "list.csv") as scratch:
        scratch.write_text("\n".join(["path,label", *rows]))
    source = open_source(str(memory / "list.csv"))
    assert len(source.items) == 60
    assert not source.items["stamp"].eq("absent").any()
    row = source.items.index[source.items["key"] == "images/red/003.png"][0]
    assert source.read(int(row)) == (photos / "red" / "003.png").read_bytes()


def test_image_parquet_files(tmp_path: Path, memory: Path) -> None:
    write_hub(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", [0, 1] * 30)
    here, there = open_source(str(tmp_path / "set")), open_source(str(upload(tmp_path / "set", memory / "set")))
    columns = ["key", "split", "label"]
    assert there.items[columns].equals(here.items[columns])
    assert [there.read(row) for row in range(60)] == [here.read(row) for row in range(60)]


# Tables


def test_a_table_in_a_store_is_the_table_of_a_folder(photos: Path, tmp_path: Path, memory: Path) -> None:
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "000.png").read_bytes()[:200])
    there = upload(photos, memory / "photos")
    beside = run(there, tmp_path / "out", max_bad=0.1).tables[0]
    inside = run(there, memory / "out", max_bad=0.1).tables[0]
    local = run(photos, tmp_path / "local", max_bad=0.1).tables[0]
    assert stored(inside.folder) == contents(beside.folder)
    assert len(inside.shards) > 2
    assert inside.ledger().equals(local.ledger())
    for ours, theirs in zip(inside.shards, local.shards, strict=True):
        with ours.open("rb") as file:
            assert pq.read_table(file).drop_columns("stamp").equals(pq.read_table(theirs).drop_columns("stamp"))
    assert FeatureTable.open(str(inside.folder)).to_pandas().equals(beside.to_pandas())


def test_finished_shards_in_a_store_are_not_redone(photos: Path, memory: Path) -> None:
    there = upload(photos, memory / "photos")
    folder = run(there, memory / "out").tables[0].folder
    undisturbed = stored(folder)
    for name in ("manifest.json", "part-00001.parquet"):
        remove(folder / name)
    with replacing(folder / "part-00002.parquet") as scratch:
        scratch.write_bytes(undisturbed["part-00002.parquet"][:-50])
    done = run(there, memory / "out")
    assert 0 < done.extracted < 120
    assert stored(folder) == undisturbed
    assert run(there, memory / "out").extracted == 0


# Locks


def hold(folder: Path) -> None:
    with locked(folder):
        pass


def test_the_second_run_waits_and_hears_for_whom(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as pool:
        with locked(memory):
            second = pool.submit(hold, memory)
            while not caplog.messages:
                time.sleep(0.01)
            assert not second.done()
        second.result()
    (said,) = caplog.messages
    assert said.startswith(f"another run (process {os.getpid()} on ")
    assert said.endswith(f"is writing {memory}: waiting until it is done")
    assert stored(memory) == {}


def test_two_runs_never_hold_a_folder_at_once(memory: Path) -> None:
    inside, most = [], []

    def work() -> None:
        with locked(memory):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(12)]:
            done.result()
    assert most == [1] * 12


def test_a_lease_that_has_run_out_is_taken_over(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = memory / f"{leases.LEASE}7"
    create(left, json.dumps({"who": "process 1", "until": time.time() - 1}).encode())
    with locked(memory):
        assert stored(memory).keys() == {f"{leases.LEASE}8"}
    assert stored(memory) == {}
    assert not caplog.messages


def test_a_lease_is_renewed(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LASTS", 0.3)
    monkeypatch.setattr(leases, "RENEWED_AFTER", 0.05)
    with ThreadPoolExecutor(1) as pool:
        with locked(memory):
            second = pool.submit(hold, memory)
            time.sleep(0.8)
            assert not second.done()
        second.result()


def test_a_holder_that_was_not_heard_of_says_so(
    memory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "RENEWED_AFTER", 0.02)
    with locked(memory):
        remove(memory / f"{leases.LEASE}1")
        while not caplog.messages:
            time.sleep(0.01)
    assert caplog.messages == [f"another run has taken over {memory}, which was not heard of for a while"]


def test_a_store_that_makes_an_object_twice_locks_nothing(
    memory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "create", lambda path, content: True)
    for _ in range(2):
        hold(memory)
    assert caplog.messages == [
        "folders cannot be locked (the store makes an object twice): start no second run on the same `out`"
    ]


# S3


@pytest.mark.servers
def test_s3_in_and_out_are_the_bytes_of_s3_in_and_a_folder_out(photos: Path, tmp_path: Path, bucket: Path) -> None:
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "000.png").read_bytes()[:200])
    there = upload(photos, bucket / "photos")
    beside = run(there, tmp_path / "out", max_bad=0.1).tables[0]
    inside = run(there, bucket / "out", max_bad=0.1).tables[0]
    local = run(photos, tmp_path / "local", max_bad=0.1).tables[0]
    assert stored(inside.folder) == contents(beside.folder)
    assert inside.ledger().equals(local.ledger())
    for ours, theirs in zip(beside.shards, local.shards, strict=True):
        assert pq.read_table(ours).drop_columns("stamp").equals(pq.read_table(theirs).drop_columns("stamp"))
    assert run(there, bucket / "out", max_bad=0.1).extracted == 0


@pytest.mark.servers
def test_commands_work_within_a_bucket(
    treehead: Run, photos: Path, bucket: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, out = upload(photos, bucket / "photos"), bucket / "run"
    wanted = ("--dataset", there, "--out", out, *SMALL)
    assert treehead("xgb", *wanted) == 0
    model = capsys.readouterr().out.strip()
    assert model.startswith(f"{out}/models/")
    assert treehead("predict", model, there / "red", "--out", out / "predictions.parquet") == 0
    assert treehead("compare", *wanted, "--heads", "xgb,linear", "--no-curve", "--no-inspect") == 0
    files = stored(out)
    assert {"predictions.parquet", ".treehead"} <= files.keys()
    assert any(name.endswith("report.html") for name in files)
    assert not [name for name, content in files.items() if KEY.encode() in content or SECRET.encode() in content]
    assert not [name for name in files if ".unfinished-" in name or ".parts/" in name]


@pytest.mark.servers
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("finetune", "digits"), "what a network is trained from"),
        (("pretrain", "digits"), "what a network is trained from"),
        (("compare", "digits", "--heads", "linear,network"), "what a network is trained from"),
        (("xgb", "digits", "--tune", "3"), "the studies of --tune"),
    ],
)
def test_what_cannot_be_in_a_bucket_is_one_line(
    treehead: Run, bucket: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    line = refused(treehead, capsys, *arguments, "--out", bucket / "run")
    assert f"--out {bucket}/run came, and {said}" in line
    assert stored(bucket) == {}


@pytest.mark.servers
def test_credentials_never_leak(treehead: Run, bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ("features", f"s3://{KEY}:{SECRET}@bucket/photos"),
        ("features", "digits", "--out", f"s3://{KEY}:{SECRET}@bucket/run"),
        ("features", bucket / "nothing"),
        ("features", "s3://no-such-bucket-here/photos"),
        ("features", "digits", "--out", "s3://no-such-bucket-here/run"),
    ):
        line = refused(treehead, capsys, *arguments)
        assert KEY not in line
        assert SECRET not in line


@pytest.mark.servers
def test_a_bucket_is_not_made(bucket: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write to s3://no-such-bucket-here/run \(The specified bucket"):
        check_writable(place("s3://no-such-bucket-here/run"))
    assert "no-such-bucket-here" not in Store().ls("")


@pytest.mark.servers
def test_a_listing_takes_a_request_for_each_thousand(bucket: Path, trouble: Trouble) -> None:
    for number in range(1001):
        create(bucket / "photos" / f"{number:04d}.jpg", b"x")
    trouble.asked.clear()
    tree = scan(bucket / "photos")
    listed.cache_clear()
    assert tree.top.images == 1001
    assert len(trouble.asked) == 2


@pytest.mark.servers
def test_passing_trouble_changes_nothing(photos: Path, tmp_path: Path, bucket: Path, trouble: Trouble) -> None:
    there = upload(photos, bucket / "photos")
    undisturbed = contents(run(there, tmp_path / "out").tables[0].folder)
    fates, count = ("503", "cut", "500", "hang"), 0
    trouble.asked.clear()

    def every_twentieth(method: str, path: str) -> str:
        nonlocal count
        count += 1
        return fates[count // 20 % 4] if count % 20 == 0 else ""

    trouble.fate = every_twentieth
    folder = run(there, bucket / "out").tables[0].folder
    trouble.fate = lambda method, path: ""
    assert count > 150
    assert stored(folder) == undisturbed


@pytest.mark.servers
@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ("503", "unreadable: Please reduce your request rate."),
        ("500", "unreadable: Please reduce your request rate."),
        ("hang", "unreadable: Read timeout on endpoint URL"),
        ("cut", "unreadable: its bytes stop on their way"),
        ("gone", "unreadable: The specified key does not exist."),
    ],
)
def test_lasting_trouble_is_in_the_ledger(photos: Path, bucket: Path, trouble: Trouble, fate: str, reason: str) -> None:
    there = upload(photos, bucket / "photos")
    source = open_source(str(there))
    trouble.fate = lambda method, path: fate if method == "GET" and path.endswith("/red/007.png") else ""
    done = extract(source, [make_tiny_trunk()], bucket / "out", max_bad=0.1, on_images=lambda _: None)
    (error,) = done.tables[0].ledger().to_dict("records")
    assert error["key"] == "red/007.png"
    assert error["reason"].startswith(reason)
    assert sum(done.tables[0].rows.values()) == 119


@pytest.mark.servers
@pytest.mark.parametrize("fate", ["503", "hang"])
def test_an_upload_that_fails_leaves_no_table(photos: Path, bucket: Path, trouble: Trouble, fate: str) -> None:
    there = upload(photos, bucket / "photos")
    trouble.fate = lambda method, path: fate if method == "PUT" and path.endswith("part-00001.parquet") else ""
    with pytest.raises(OutputError, match=r"cannot write s3://.*part-00001\.parquet \("):
        run(there, bucket / "out")
    trouble.fate = lambda method, path: ""
    names = {name.rpartition("/")[2] for name in stored(bucket / "out")}
    assert "part-00000.parquet" in names
    assert not {"part-00001.parquet", "manifest.json"} & names
    assert run(there, bucket / "out").tables[0].is_intact()


@pytest.mark.servers
def test_a_large_upload_cut_short_is_not_seen(tmp_path: Path, bucket: Path, trouble: Trouble) -> None:
    trouble.fate = lambda method, path: "503" if "partNumber=2" in path else ""
    with pytest.raises(OutputError, match=r"cannot write s3://.*large \("), replacing(bucket / "large") as scratch:
        scratch.write_bytes(bytes(120 << 20))
    trouble.fate = lambda method, path: ""
    assert any("partNumber=1" in path for _, path in trouble.asked)
    assert stored(bucket) == {}


@pytest.mark.servers
def test_parts_of_a_file_are_asked_for_again(tmp_path: Path, bucket: Path, trouble: Trouble) -> None:
    write_hub(tmp_path / "set" / "train.parquet", [0, 1] * 30)
    there = upload(tmp_path / "set", bucket / "set")
    cut = iter(["cut"] * 3)
    trouble.fate = lambda method, path: next(cut, "") if method == "GET" and path.endswith(".parquet") else ""
    assert len(open_source(str(there)).items) == 60
    assert next(cut, None) is None


@pytest.mark.servers
def test_two_writers_make_one_table(photos: Path, bucket: Path) -> None:
    there = upload(photos, bucket / "photos")
    with ThreadPoolExecutor(2) as pool:
        first, second = (done.result() for done in [pool.submit(run, there, bucket / "out") for _ in range(2)])
    assert {first.extracted, second.extracted} == {0, 120}
    assert first.tables[0].is_intact()


@pytest.mark.servers
def test_a_run_that_was_killed_goes_on(photos: Path, tmp_path: Path, bucket: Path) -> None:
    for colour in ("red", "green", "blue"):
        write_images(photos / colour, colour, 80, start=100)
    there = upload(photos, bucket / "photos")
    undisturbed = contents(run(there, tmp_path / "out").tables[0].folder)
    program = SLOW_RUN.replace("map(Path, ", "map(place, ").replace('"pool", "early"', '"pool"')
    program = f"from features.stores import place\n{program}"
    command = [sys.executable, "-c", program, str(there), str(bucket / "out"), "torch"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not any(name.endswith("part-00000.parquet") for name in names(bucket / "out")):
            assert process.poll() is None
        process.kill()
    left = stored(bucket / "out")
    assert not any(name.endswith("manifest.json") for name in left)
    (lease,) = (name for name in left if leases.LEASE in name)
    with replacing(bucket / "out" / lease) as scratch:
        scratch.write_text(json.dumps({**json.loads(left[lease]), "until": time.time() - 1}))
    done = run(there, bucket / "out")
    assert 0 < done.extracted < 360
    assert stored(done.tables[0].folder) == undisturbed


@pytest.mark.servers
def test_images_are_found_for_predictions(photos: Path, bucket: Path) -> None:
    assert len(files_below(upload(photos, bucket / "photos"))) == 120
