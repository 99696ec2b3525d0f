"""Lists as Kaggle, Excel, Windows and fastai write them, each read as it was meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import SourceError
from features.sources.manifests import open_manifest
from features.sources.options import SourceOptions
from features.sources.source import Source

FILES = [f"img/{number:03d}.png" for number in range(8)]


def rows(labels: Sequence[object] = ("cat", "dog"), sep: str = ",", end: str = "\n", files: list[str] = FILES) -> str:
    return "".join(f"{file}{sep}{labels[row % len(labels)]}{end}" for row, file in enumerate(files))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "img").mkdir()
    for file in FILES:
        (tmp_path / file).touch()
    return tmp_path


def opened(folder: Path, text: str | bytes, columns: str = "", name: str = "list.csv") -> Source:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return open_manifest(folder / name, SourceOptions(columns=columns), lambda _: None)


def opened_parquet(folder: Path, **columns: Any) -> Source:
    pd.DataFrame(columns).to_parquet(folder / "list.parquet")
    return open_manifest(folder / "list.parquet", SourceOptions(), lambda _: None)


PLAIN = "path,label\n" + rows()
MENDED = "paths mended (backslashes, blanks or capitals), "
TURNED = "".join(f"{'cat' if row % 2 == 0 else 'dog'},{file}\n" for row, file in enumerate(FILES))

READ: dict[str, tuple[str | bytes, str]] = {
    "plain": (PLAIN, ""),
    "no line end": (PLAIN.rstrip(), ""),
    "empty lines": ("\n\n" + PLAIN.replace("\n", "\n\n"), ""),
    "Windows": ("\ufeffpath,label\r\n" + rows(end="\r\n"), ""),
    "old Mac": (PLAIN.replace("\n", "\r"), ""),
    "blanks": ("path , label\n" + rows(sep=", "), ""),
    "blanks before quotes": ("path, label\n" + rows(('"cat"', '"dog"'), sep=", "), ""),
    "blanks in rows alone": ("path,label\n" + rows(('"cat"', '"dog"'), sep=", "), ""),
    "quotes": ('"path","label"\n' + rows(('"cat"', '"dog"')), ""),
    "semicolons": (PLAIN.replace(",", ";"), "semicolons, "),
    "tabs": (PLAIN.replace(",", "\t"), "tabs, "),
    "bars": (PLAIN.replace(",", "|"), "bars, "),
    "columns of blanks": (PLAIN.replace(",", "   "), "blanks, "),
    "UTF-16": (PLAIN.encode("utf-16"), "UTF-16, "),
    "UTF-16, other order": ("\ufeff".encode("utf-16-be") + PLAIN.encode("utf-16-be"), "UTF-16, "),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "UTF-16, "),
    "Excel's Unicode text": (PLAIN.replace(",", "\t").encode("utf-16"), "tabs, UTF-16, "),
    "sep=": ("sep=;\r\n" + PLAIN.replace(",", ";"), "semicolons, "),
    "sep=,": ("sep=,\n" + PLAIN, ""),
    "delimiter at the end of rows": ("path,label\n" + rows(("cat,", "dog,")), ""),
    "delimiters at the end of rows": ("path,label\n" + rows(("cat,,,", "dog,,,")), ""),
    "an index": (",path,label\n" + "".join(f"{row},{line}\n" for row, line in enumerate(rows().splitlines())), ""),
    "delimiter at the end of all": ("path,label,,\n" + rows(("cat,,", "dog,,")), ""),
    "capitals": ("Path,Label\n" + rows(), "path=Path, label=Label, "),
    "File Name": ("File Name,Class\n" + rows(), "path=File Name, label=Class, "),
    "the hub's": ("file_name,label\n" + rows(), "path=file_name, "),
    "Kaggle's": ("id,breed\n" + rows(), "path=id, label=breed, "),
    "no suffix": ("path,label\n" + rows(files=[file[:-4] for file in FILES]), "+ .png, "),
    "no suffix, another folder": (
        "id,breed\n" + rows(files=[file[4:-4] for file in FILES]),
        "path=id (+ .png in img/), label=breed, ",
    ),
    "another folder": ("path,label\n" + rows(files=[file[4:] for file in FILES]), "in img/, "),
    "backslashes": (PLAIN.replace("/", "\\"), MENDED),
    "capitals in paths": (PLAIN.replace(".png", ".PNG"), MENDED),
    "blanks around paths": ('path,label\n' + rows(files=[f'"{file} "' for file in FILES]), MENDED),
    "a long column": ("path,label,mask\n" + rows([f"{name},{'1 ' * 100_000}" for name in ("cat", "dog")]), ""),
    "./": ("path,label\n" + rows(files=[f"./{file}" for file in FILES]), ""),
    "a path by content": ("breed,photograph\n" + TURNED, "path=photograph, label=breed, "),
    "the other is the path": ("label,photograph\n" + TURNED, "path=photograph, "),
    "one column a class": (
        "path,cat,dog\n" + "".join(f"{file},{1 - row % 2},{row % 2}\n" for row, file in enumerate(FILES)),
        "a column for each class, ",
    ),
    "one column a class, 1.0": (
        "path,cat,dog\n" + "".join(f"{file},{1.0 - row % 2},{row % 2:.1f}\n" for row, file in enumerate(FILES)),
        "a column for each class, ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", READ)
def test_a_dialect_is_read_as_it_was_meant(folder: Path, dialect: str) -> None:
    text, said = READ[dialect]
    source = opened(folder, text)
    assert source.classes == ("cat", "dog")
    assert source.items["label"].tolist() == [0, 1] * 4
    assert source.items["key"].tolist() == FILES
    assert "absent" not in source.items["stamp"].tolist()
    assert source.read(3) == b""
    assert source.layout == (f"list.csv: {said}2 classes" if said else "")


def test_cp1252_is_read_and_said(folder: Path) -> None:
    text = ("path,label\n" + rows(("café", "dog"))).encode("cp1252")
    for data in (text, b"\xef\xbb\xbf" + text):  # the mark of UTF-8, and text that was put behind it
        source = opened(folder, data)
        assert source.classes == ("café", "dog")
        assert source.layout == "list.csv: cp1252, 2 classes"


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": (b"", r"cannot read .*list.csv \(it is empty\): expected a CSV or Parquet file of path,label\[,split\]"),
    "NUL in a row": (PLAIN.encode() + b"img/001\0.png,cat\n", r"NUL bytes in row 9, as a copy that was cut off"),
    "NUL at the end": (PLAIN.encode() + bytes(64), r"NUL bytes in row 9, as a copy that was cut off"),
    "NUL alone": (bytes(64), r"NUL bytes in row 0, as a copy that was cut off"),
    "one byte": (b"x", r"list.csv has the columns x: expected path, label"),
    "no text": (b"path,label\n\x81\xfe\n", r"neither UTF-8, UTF-16 nor cp1252 text"),
    "a field too many": (PLAIN + "img/001.png,cat,x\n", r"row 9 has more fields than the header, 2"),
    "two fields too many": (PLAIN + "img/001.png,cat,x,y\n", r"row 9 has more fields than the header, 2"),
    "a field too many in all": ("path,label\n" + rows(("cat,x,y",)), r"row 1 has more fields than the header, 2"),
    "a column twice": ("path,label,x,x\n" + rows(("cat,1,2",)), r"several columns are called 'x'"),
    "an open quote": (PLAIN + 'img/001.png,"cat\n', r"cannot read .*list.csv \(its quotes do not fit, unexpected"),
    "two paths": ("file,image_id,label\nimg/000.png,1,x\n", r"has file, image_id, each .* image: give `columns=path="),
    "two labels": ("path,class,target\nimg/000.png,1,x\n", r"has class, target, each .* label: give `columns=label="),
    "which label": ("path,breed,size\nimg/000.png,x,7\n", r"has the columns path, breed, size: .*which is the label"),
    "no header": (rows(), r"has no header: its first line is 'img/000.png,cat', expected path,label\[,split\]"),
    "address": (PLAIN + "https://example.org/a.png,cat\n", r"lists an address in row 9 \(https://example.org/a.png\)"),
    "none there": ("path,label\na.png,cat\nb.png,dog\n", r"2 images, and none is there \(first: 'a.png'; looked"),
    "one file, two names": (PLAIN + "img/../img/000.png,dog\n", r"lists one image as 'img/000.png' and as 'img/\.\./"),
    "multi-label": ("path,cat,dog\nimg/000.png,1,0\nimg/001.png,1,1\n", r"first: row 2, cat, dog\), as multi-label"),
    "no class": ("path,cat,dog\nimg/000.png,1,0\nimg/001.png,0,0\n", r"in 1 of 2 rows \(first: row 2, none\)"),
    "fractions": ("path,label\n" + rows((0.25, 1)), r"has fractions as labels \(0.25\): expected classes"),
    "a gap": ("path,label\n" + rows(("cat", "", "dog", "")), r"has no label in 4 of 8 rows \(first: row 2\)"),
    "a blank": ("path,label\n" + rows(("cat", "\u00a0")), r"has no label in 4 of 8 rows \(first: row 2\)"),
    "a blank path": ("path,label\n" + rows() + ",cat\n", r"has no path in 1 of 9 rows \(first: row 9\)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_list_that_cannot_be_understood_is_refused(folder: Path, fault: str) -> None:
    text, message = REFUSED[fault]
    with pytest.raises(SourceError, match=message):
        opened(folder, text)


def test_columns_are_taken_as_asked(folder: Path) -> None:
    text = "file,name,size,breed,part\n" + "".join(f"x,{f},7,{'ab'[i % 2]},test\n" for i, f in enumerate(FILES))
    source = opened(folder, text, columns="path=name,label=breed,split=part")
    assert (source.classes, source.items["key"].tolist()) == (("a", "b"), FILES)
    assert set(source.items["split"]) == {"test"}
    assert source.layout == "list.csv: path=name, label=breed, split=part, 2 classes"
    with pytest.raises(SourceError, match=r"has the columns path, label: expected 'breed', as `columns` says"):
        opened(folder, PLAIN, columns="label=breed")


def test_an_absolute_path_stays(folder: Path) -> None:
    files = [str(folder / file) for file in FILES]
    assert opened(folder, "path,label\n" + rows(files=files)).items["key"].tolist() == files
    with pytest.raises(SourceError, match=r"lists one image as .*000.png"):
        opened(folder, "path,label\n" + rows(files=[*FILES, files[0]]))


def test_what_is_absent_keeps_its_name(folder: Path) -> None:
    absent = ["img/999.png", "x" * 300 + ".png", "img"]
    source = opened(folder, "path,label\n" + rows(files=[*FILES, *absent]))
    assert source.items["key"].tolist() == [*FILES, *absent]
    assert source.items["stamp"].tolist()[-3:] == ["absent"] * 3
    with pytest.raises(OSError, match=r"No such file"):
        source.read(8)


def test_it_is_said_where_absent_images_were_looked_for(folder: Path) -> None:
    (folder / "other").mkdir()
    with pytest.raises(
        SourceError, match=r"beside the list and in img/, other/\): expected paths relative to the list"
    ):
        opened(folder, "path,label\na.png,cat\n")


def test_an_image_with_two_suffixes_is_refused(folder: Path) -> None:
    (folder / "img/000.jpg").touch()
    with pytest.raises(SourceError, match=r"lists '000', which may be img/000.jpg, img/000.png: expected one"):
        opened(folder, "id,breed\n" + rows(files=[file[4:-4] for file in FILES]))


def test_a_name_is_taken_as_it_is_before_one_with_other_capitals(folder: Path) -> None:
    for name in ("A.png", "a.png", "B.png", "b.PNG"):
        (folder / name).touch()
    assert opened(folder, "path,label\nA,x\na,y\n").items["key"].tolist() == ["A.png", "a.png"]
    with pytest.raises(SourceError, match=r"lists 'b.png', which may be B.png, b.PNG"):
        opened(folder, "path,label\nA,x\nb.png,y\n")


def test_images_are_found_in_usual_folders_before_others(folder: Path) -> None:
    for other in ("masks", "part_1", ".hidden"):
        (folder / other).mkdir()
        (folder / other / "000.png").touch()
    (folder / "part_1/100.jpg").touch()
    keys = opened(folder, "id,breed\n000,cat\n100,dog\n").items["key"].tolist()
    assert keys == ["img/000.png", "part_1/100.jpg"]


@pytest.mark.parametrize("labels", [("0.0", "1.0"), ("0", "1", "0.0", "1.0"), ("0", "1.")])
def test_whole_numbers_are_one_class_each(
    folder: Path, labels: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    assert opened(folder, "path,label\n" + rows(labels)).classes == ("0", "1")
    assert ("0.0, 1.0 are whole numbers, and one class each with these" in caplog.text) == (len(labels) == 4)


@pytest.mark.parametrize("text", ["path\n" + rows(("",), sep=""), "path,label\n" + rows(("",))])
def test_a_list_without_labels_has_no_classes(folder: Path, text: str) -> None:
    source = opened(folder, text)
    assert source.classes == ()
    assert set(source.items["label"]) == {-1}
    assert source.layout == "list.csv: no labels, 0 classes"


SPLITS = {
    "train,val,test,dev": ["train", "validation", "test", "validation"],
    "Training,EVAL,Testing,valid": ["train", "validation", "test", "validation"],
    "0,1,2,3": ["train", "train", "validation", "test"],
    "4.0,2.0,3.0,2.0": ["test", "train", "validation", "train"],
    "fold_1,fold 2,Fold10,cv9": ["train", "train", "test", "validation"],
    "1,2,1,2": ["train", "test", "train", "test"],
}


@pytest.mark.parametrize("words", SPLITS)
@pytest.mark.parametrize("column", ["split", "Set", "fold"])
def test_splits_and_folds(folder: Path, words: str, column: str) -> None:
    labels = [f"{'ab'[row % 2]},{word}" for row, word in enumerate(words.split(","))]
    source = opened(folder, f"path,label,{column}\n" + rows(labels))
    assert source.items["split"].tolist() == SPLITS[words] * 2
    assert ("fold 3 is test, fold 2 is validation" in source.layout) == (words == "0,1,2,3")


def test_numbers_that_are_no_folds_are_refused(folder: Path) -> None:
    files = [f"img/{number:03d}.png" for number in range(21)]
    with pytest.raises(SourceError, match=r"has the split '0': expected train, validation or test, or the numbers of"):
        opened(folder, "path,label,split\n" + "".join(f"{file},x,{row}\n" for row, file in enumerate(files)))


def test_minus_one_is_no_fold(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"has the split '-1': expected train, validation or test, or the numbers of"):
        opened(folder, "path,label,fold\n" + rows(["cat,-1", "dog,-1", "cat,0", "dog,1"]))


def test_fastai_s_is_valid(folder: Path) -> None:
    source = opened(folder, "fname,labels,is_valid\n" + rows(["a,False", "b,True"]))
    assert source.items["split"].tolist() == ["train", "validation"] * 4


@pytest.mark.parametrize(
    ("column", "values", "splits"),
    [
        ("partition", ("train", "test"), ["train", "test"]),
        ("anything", ("train", "val"), ["train", "validation"]),
        ("is_test", ("0", "1"), ["train", "test"]),
        ("is_train", ("True", "False"), ["train", "test"]),
    ],
)
def test_splits_under_another_name(folder: Path, column: str, values: tuple[str, str], splits: list[str]) -> None:
    source = opened(folder, f"path,label,{column}\n" + rows([f"a,{values[0]}", f"b,{values[1]}"]))
    assert source.items["split"].tolist() == splits * 4
    assert f"split={column}" in source.layout


def test_splits_under_another_name_in_parquet(folder: Path) -> None:
    source = opened_parquet(folder, path=FILES, label=["a", "b"] * 4, which=["train", "test"] * 4)
    assert source.items["split"].tolist() == ["train", "test"] * 4


def test_a_name_in_another_form_of_unicode_is_found(folder: Path) -> None:
    (folder / "img" / "cafe\u0301.png").write_bytes((folder / FILES[0]).read_bytes())
    source = opened(folder, "path,label\n" + rows() + "img/caf\u00e9.png,cat\n")
    assert source.items["key"].iloc[-1] == "img/cafe\u0301.png"


def test_parquet_of_other_types(folder: Path) -> None:
    numbers = opened_parquet(folder, path=FILES, label=[0, 1] * 4)
    assert numbers.classes == opened_parquet(folder, path=FILES, label=[0.0, 1.0] * 4).classes == ("0", "1")
    assert opened_parquet(folder, path=FILES, label=pd.Categorical(["a", "b"] * 4)).classes == ("a", "b")
    assert opened_parquet(folder, path=FILES, label=[True, False] * 4).classes == ("False", "True")


@pytest.mark.parametrize("labels", [[[0], [1]], [{"a": 1}, {"a": 2}], [b"a", b"b"]])
def test_parquet_labels_that_are_none_are_refused(folder: Path, labels: list[Any]) -> None:
    with pytest.raises(SourceError, match=r"list.parquet has .* in the column 'label': expected one label a row"):
        opened_parquet(folder, path=FILES, label=labels * 4)


def test_parquet_with_nul_in_a_path(folder: Path) -> None:
    with pytest.raises(SourceError, match=re.escape(r"lists 'img\x00/000.png' in row 1, which no file can be called")):
        opened_parquet(folder, path=[FILES[0].replace("/", "\0/"), *FILES[1:]], label=[0, 1] * 4)


def test_parquet_ids_beside_a_column_of_lists(folder: Path) -> None:
    for number in (1, 2):
        (folder / f"{number}.png").touch()
    source = opened_parquet(folder, id=[1, 2], breed=["a", "b"], boxes=[[1], [2]])
    assert source.items["key"].tolist() == ["1.png", "2.png"]
    assert source.classes == ("a", "b")
