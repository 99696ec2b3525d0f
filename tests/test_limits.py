"""What an image, or a file that is called one, may cost; and what is read of files that were cut short."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from features.errors import DecodeError, SourceError, TrunkError
from features.frozen_trunk import FrozenTrunk
from features.outcomes import LONGEST_REASON, Outcome
from features.sources.decode import LARGE, NEEDED, NEEDED_BY_OTHERS, decode
from features.sources.files import MOST_BYTES, read_file
from features.sources.formats.rules import Decoding
from features.storage import from_json
from features.trunk.spec import BackboneOptions, TrunkSpec
from tests.conftest import encoded, tiny_spec

pillow_heif.register_heif_opener()

NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
PHOTO = Image.fromarray(NOISE)


JPEG, PROGRESSIVE, PNG = encoded(PHOTO, "jpeg"), encoded(PHOTO, "jpeg", progressive=True), encoded(PHOTO, "png")


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_whole(whole: bytes) -> None:
    for cut in (whole[:-2], whole[:-1], whole[:-2] + bytes(100)):
        assert np.array_equal(decode(cut), decode(whole))


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["no end", "an end"])
def test_a_jpeg_cut_short_is_refused_with_what_is_missing_and_read_when_asked(end: bytes) -> None:
    cut = JPEG[: len(JPEG) // 2] + end
    with pytest.raises(
        DecodeError, match=r"^cut short: 6\d % of its rows are missing; `accept_truncated=0\.6\d` would"
    ):
        decode(cut)
    with pytest.raises(DecodeError, match="cut short"):
        decode(cut, Decoding(accept_truncated=0.4))
    pixels = decode(cut, Decoding(accept_truncated=0.7))
    assert np.array_equal(pixels[:40], decode(JPEG)[:40])
    assert (pixels[-40:] == 128).all()


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98])
def test_a_jpeg_filled_up_with_zeros_is_cut_short(share: float, optimize: bool) -> None:
    whole = encoded(PHOTO.resize((640, 480)), "jpeg", quality=90, optimize=optimize)
    with pytest.raises(DecodeError, match=r"^(cut short: \d+ % of its rows are missing|damaged image: a part)"):
        decode(whole[: int(share * len(whole))].ljust(len(whole), b"\0"))


def test_a_progressive_jpeg_cut_short_lacks_detail() -> None:
    cut = PROGRESSIVE[: len(PROGRESSIVE) // 2]
    with pytest.raises(
        DecodeError, match=r"^cut short: \d\d % of its detail is missing; `accept_truncated=0\.\d+` would"
    ):
        decode(cut)
    assert decode(cut, Decoding(accept_truncated=0.95)).shape == NOISE.shape


def test_a_png_cut_short_is_refused_with_what_is_missing_and_read_when_asked() -> None:
    cut = PNG[: len(PNG) // 2]
    with pytest.raises(
        DecodeError, match=r"^cut short: 5\d % of its rows are missing; `accept_truncated=0\.5\d` would"
    ):
        decode(cut)
    pixels = decode(cut, Decoding(accept_truncated=0.6))
    assert np.array_equal(pixels[:40], NOISE[:40])
    assert (pixels[-40:] == 128).all()
    assert np.array_equal(decode(PNG[:-12]), NOISE)  # its end marker alone


def test_a_hole_of_zeros_in_a_jpeg_is_damage() -> None:
    large = encoded(PHOTO.resize((640, 480)), "jpeg")
    middle = len(large) // 2
    with pytest.raises(DecodeError, match=r"^damaged image: a part of its pixels is nothing but zeros"):
        decode(large[:middle] + bytes(1024) + large[middle + 1024 :])
    assert np.array_equal(decode(large + bytes(4096) + large), decode(large))  # a second picture, as phones add


@pytest.mark.parametrize("optimize", [False, True])
def test_a_plain_area_of_a_jpeg_is_no_hole(optimize: bool) -> None:
    for grey in (0, 128, 255):
        plain = encoded(Image.new("RGB", (2000, 2000), (grey, grey, grey)), "jpeg", optimize=optimize)
        assert np.abs(decode(plain).astype(int) - grey).max() <= 1


def test_heic_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(PHOTO, "heif", exif=exif.tobytes(), quality=90)
    expected = np.rot90(decode(encoded(PHOTO, "heif", quality=90)), -1).astype(float)
    assert np.abs(decode(turned) - expected).mean() < 30
    assert decode(turned).shape == (160, 120, 3)


def test_a_photograph_whose_corner_is_grey_is_whole() -> None:
    pixels = NOISE.copy()
    pixels[-64:] = 128
    assert (decode(encoded(Image.fromarray(pixels), "jpeg", quality=95))[-20:] == 128).all()


def test_a_wrong_checksum_of_pixels_is_damage() -> None:
    damaged = bytearray(PNG)
    damaged[-20] ^= 1
    with pytest.raises(DecodeError, match="damaged image"):
        decode(bytes(damaged))


def test_text_and_exif_of_any_size_cost_nothing() -> None:
    text = b"workflow\0\0" + zlib.compress(b"a" * 3_000_000)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + b"sums"  # with a wrong checksum, too
    assert np.array_equal(decode(PNG[:33] + chunk + PNG[33:]), NOISE)
    exif = b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)
    assert np.array_equal(decode(JPEG[:2] + 100 * exif + JPEG[2:]), decode(JPEG))


@pytest.mark.parametrize(("bits", "grey"), [(1, 1), (2, 2), (4, 9), (8, 200), (16, 40_000)])
def test_one_transparent_grey_lies_on_white(bits: int, grey: int) -> None:
    other = 0
    rows = [f"{grey:0{bits}b}{other:0{bits}b}" * 8] * 4  # sixteen pixels, the first transparent
    data = b"".join(b"\0" + int(row, 2).to_bytes(2 * bits, "big") for row in rows)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 16, 4, bits, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", grey),
        b"IDAT": zlib.compress(data),
        b"IEND": b"",
    }
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    )
    pixels = decode(png)
    assert (pixels[:, ::2] == 255).all()
    assert (pixels[:, 1::2] == 0).all()


def test_large_images_are_halved_as_they_are_decoded() -> None:
    width, height = 8000, 3200
    assert width * height > LARGE
    grey = np.linspace(0, 255, width).astype(np.uint8)
    image = Image.fromarray(np.repeat(grey[None], height, 0))
    for kind in ("jpeg", "png", "gif"):
        pixels = decode(encoded(image, kind))
        assert pixels.shape == (1600, 4000, 3)
        assert np.abs(pixels[700, :, 1].astype(int) - grey[::2]).max() <= 3


MEASURED = """
import sys
from PIL import Image
from features.sources.decode import decode

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

payload = open(sys.argv[1], "rb").read()
decode(open(sys.argv[2], "rb").read())
before = peak()
decode(payload)
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("kind", "options"),
    [("jpeg", {"progressive": True, "subsampling": 0}), ("png", {"compress_level": 1}), ("webp", {})],
)
def test_memory_is_bounded_by_the_number_of_pixels(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    image = PHOTO.resize((6400, 4000))
    (tmp_path / "large").write_bytes(encoded(image, kind, **options))
    (tmp_path / "small").write_bytes(encoded(PHOTO, kind))
    words = [sys.executable, "-c", MEASURED, str(tmp_path / "large"), str(tmp_path / "small")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert int(done.stdout) <= NEEDED.get(kind.upper(), NEEDED_BY_OTHERS) * 6400 * 4000


LITTLE_MEMORY = """
import resource, sys
import numpy as np
from features.errors import DecodeError
from features.sources.decode import decode

payload = open(sys.argv[1], "rb").read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, used + 2**25))
try:
    decode(payload)
except DecodeError as error:
    print(error)
"""


def test_memory_that_runs_out_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "bomb.gif").write_bytes(encoded(Image.new("P", (9_400, 9_400)), "gif"))
    words = [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "bomb.gif")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert done.stdout.startswith("needs more memory than there is")


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket.jpg"))
    for name, reason in (("pipe.jpg", "a named pipe"), ("socket.jpg", "a socket"), (".", "a folder")):
        with pytest.raises(DecodeError, match=f"^{reason} and not a file: remove it"):
            read_file(tmp_path / name)
    with pytest.raises(DecodeError, match="a device and not a file"):
        read_file(Path("/dev/zero"))


def test_a_file_larger_than_images_are_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(300 * MOST_BYTES)
    with pytest.raises(DecodeError, match=r"322\.1 GB, over 1\.1: no image is so large"):
        read_file(tmp_path / "sparse.jpg")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript, which is not read: convert it to JPEG or PNG"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "PostScript"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS .*: fetch it with git lfs pull"),
        (b"<!DOCTYPE html><title>403</title>", "a web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML or JSON message"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "a camera's raw file"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera's raw file"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isom", "a video"),
        (b"PK\3\4" + bytes(60), "an archive"),
        (bytes(4096), "holds nothing but zeros"),
        (b"\0\0\1\0\1\0", "damaged image"),
    ],
)
def test_what_is_known_and_not_read_is_named(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=f"^{reason}"):
        decode(payload)


def test_formats_that_are_not_asked_for_are_refused() -> None:
    with pytest.raises(DecodeError, match="PNG, which is not read here: convert it to JPEG"):
        decode(PNG, Decoding(formats=("JPEG",)))


def test_specs_of_earlier_releases_have_the_rules_of_now() -> None:
    content = {
        name: value
        for name, value in tiny_spec("pool").to_json().items()
        if name not in ("formats", "max_pixels", "accept_truncated")
    }
    assert from_json(TrunkSpec, content) == tiny_spec("pool")


def test_rules_that_are_out_of_range_are_said() -> None:
    with pytest.raises(TrunkError, match=r"`max_pixels=0` is out of range: expected 1 or more"):
        BackboneOptions(max_pixels=0)
    with pytest.raises(TrunkError, match=r"`accept_truncated=2` is no share: expected a number from 0 to 1"):
        BackboneOptions(accept_truncated=2)


def test_rules_that_are_asked_for_are_part_of_the_trunk(photos: Path) -> None:
    trunk = FrozenTrunk("squeezenet1_1", weights="random", pool="avg", image_size=32, max_pixels=100).fit([])
    assert trunk.specs_[0].max_pixels == 100
    with pytest.raises(SourceError, match="too many pixels"):
        trunk.transform([next((photos / "red").iterdir())])


def test_a_png_whose_rows_end_early_is_cut_short() -> None:
    size, rows = 40, b"".join(b"\0" + bytes(range(1, 121)) for _ in range(25))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    with pytest.raises(DecodeError, match=r"^cut short: 38 % of its rows are missing; `accept_truncated=0.38` would"):
        decode(b"\x89PNG\r\n\x1a\n" + body)
    pixels = decode(b"\x89PNG\r\n\x1a\n" + body, Decoding(accept_truncated=0.4))
    assert (pixels[25:] == 128).all()
    assert not (pixels[24] == 128).all()
    whole = encoded(Image.new("RGB", (40, 40), (9, 9, 9)), "png")
    assert (decode(whole) == 9).all()


def test_a_fourth_byte_that_is_0_throughout_is_no_alpha() -> None:
    picture = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert decode(encoded(picture, "tga"))[0, 0].tolist() == [10, 20, 30]
    assert decode(encoded(picture, "bmp"))[0, 0].tolist() == [10, 20, 30]
    assert decode(encoded(picture, "png"))[0, 0].tolist() == [255, 255, 255]


def test_what_is_said_of_a_file_has_an_end() -> None:
    outcome = Outcome()
    outcome.fail("damaged " * 10_000, ValueError())
    assert len(outcome.reason) <= LONGEST_REASON
