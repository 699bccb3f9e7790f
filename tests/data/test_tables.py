"""Tables of paths, as spreadsheets and scripts write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_files import encoded, picture

from modalign.core.errors import InputError
from modalign.core.features import UNLABELED
from modalign.data.items import Items, load_items

JPEG = encoded(picture(), "JPEG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "sub/c d.jpg", "sub/e, f.jpg", "#5.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(JPEG)
    return tmp_path


def read(folder: Path, text: str, name: str = "list.csv", encoding: str = "utf-8", **options: object) -> Items:
    (folder / name).write_text(text, encoding=encoding)
    return load_items(folder / name, **options)


def labeled(items: Items) -> dict[str, str | None]:
    return {n: None if k == UNLABELED else items.class_names[k] for n, k in zip(items.ids, items.labels, strict=True)}


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.jpg,cat\nb.jpg,dog\n",
        "Label;Path\r\ncat;a.jpg\r\ndog;b.jpg\r\n",
        "\ufeffimage\tclass\na.jpg\tcat\nb.jpg\tdog",
        "id,file,category\n1,a.jpg,cat\n2,b.jpg,dog\n",
        "filename,label,class_name\na.jpg,0,cat\nb.jpg,1,dog\n",
        "path, label\n a.jpg , cat\n\n b.jpg , dog\n",
        "a.jpg,cat\nb.jpg,dog\n",
        'path,label\n"a.jpg","cat"\n"b.jpg","dog"\n',
    ],
)
def test_columns_delimiters_and_headers(folder: Path, text: str) -> None:
    items = read(folder, text)
    assert labeled(items) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert items.class_names == ("cat", "dog")
    assert items.read(0) == JPEG


def test_without_labels_or_with_gaps(folder: Path) -> None:
    assert labeled(read(folder, "path\na.jpg\nb.jpg\n")) == {"a.jpg": None, "b.jpg": None}
    assert labeled(read(folder, "path,label\na.jpg,cat\nb.jpg,\n")) == {"a.jpg": "cat", "b.jpg": None}
    assert labeled(read(folder, "path,label\na.jpg,cat\nb.jpg\n")) == {"a.jpg": "cat", "b.jpg": None}


def test_quoted_delimiters_blanks_backslashes_and_absolute_paths(folder: Path) -> None:
    rows = ['"sub/e, f.jpg",x', "sub\\c d.jpg,y", f"{folder / 'a.jpg'},z", "./b.jpg,z"]
    items = read(folder, "path,label\n" + "\n".join(rows))
    assert len(items) == 4
    assert not items.quarantined
    assert items.class_names == ("x", "y", "z")


def test_integer_labels_are_names_unless_classes_are_given(folder: Path) -> None:
    text = "path,label\na.jpg,10\nb.jpg,2\n"
    items = read(folder, text)
    assert items.class_names == ("2", "10")
    names = [f"class {i}" for i in range(11)]
    assert labeled(read(folder, text, classes=names)) == {"a.jpg": "class 10", "b.jpg": "class 2"}
    with pytest.raises(InputError, match="'10'"):
        read(folder, text, classes=names[:5])


def test_classes_rename_and_order_csv_labels(folder: Path) -> None:
    items = read(folder, "path,label\na.jpg,cat\nb.jpg,dog\n", classes={"dog": "a dog", "cat": "a cat"})
    assert items.class_names == ("a dog", "a cat")
    assert items.labels.tolist() == [1, 0]


def test_plain_lists(folder: Path) -> None:
    assert read(folder, "a.jpg\n\nb.jpg\n", "list.txt").ids == ("a.jpg", "b.jpg")
    items = read(folder, "# a comment\na.jpg cat\nsub/c d.jpg\tbig dog\nsub/e, f.jpg\n", "list.txt")
    assert labeled(items) == {"a.jpg": "cat", "sub/c d.jpg": "big dog", "sub/e, f.jpg": None}


def test_missing_images_are_quarantined_unless_all_are(folder: Path) -> None:
    items = read(folder, "path,label\na.jpg,cat\ngone.jpg,dog\nsub,dog\n")
    assert [(q.id, q.reason) for q in items.quarantined] == [
        ("gone.jpg", "file not found"),
        ("sub", "a folder, not an image"),
    ]
    assert items.class_names == ("cat", "dog"), "a class is a class even if its images are gone"
    with pytest.raises(InputError, match="none of them is there"):
        read(folder, "path\nx/a.jpg\nx/b.jpg\n")


def test_repeated_rows_are_dropped_and_contradictions_are_errors(folder: Path) -> None:
    items = read(folder, "path,label\na.jpg,cat\na.jpg,cat\nb.jpg,dog\n")
    assert len(items) == 2
    assert any("1 repeated row" in note for note in items.notes)
    with pytest.raises(InputError, match=r"'a.jpg' as 'cat' in line 2 and as 'dog' in line 4"):
        read(folder, "path,label\na.jpg,cat\nb.jpg,dog\na.jpg,dog\n")
    with pytest.raises(InputError, match=r"'sub/../a.jpg' as 'cat' in line 2 and as 'dog' in line 3"):
        read(folder, "path,label\n./a.jpg,cat\nsub/../a.jpg,dog\n")


def test_a_quotation_mark_that_is_not_closed_swallows_no_rows(folder: Path) -> None:
    with pytest.raises(InputError, match="line 3: a quotation mark is not closed"):
        read(folder, 'path,label\na.jpg,cat\n"b.jpg,dog\n#5.jpg,dog\n')
    assert read(folder, 'path,label\na.jpg,5" nail\nb.jpg,dog\n').class_names == ('5" nail', "dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [("x,y\n1,2\n", "a column named path"), ("", "empty file"), ("path,label\n", "found none")],
)
def test_tables_without_images(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, text)


def test_other_encodings_are_reported(folder: Path) -> None:
    with pytest.raises(InputError, match="UTF-8"):
        read(folder, "path,label\na.jpg,schön\n", encoding="latin-1")


@pytest.mark.parametrize(
    "text",
    [
        "path,label,split\na.jpg,cat,train\nb.jpg,dog,VALID\nsub/c d.jpg,cat,test\n#5.jpg,dog,\n",
        "Subset;file;class\nTraining;a.jpg;cat\nval;b.jpg;dog\nTesting;sub/c d.jpg;cat\n;#5.jpg;dog\n",
        "a.jpg,cat,train\nb.jpg,dog,dev\nsub/c d.jpg,cat,test\n#5.jpg,dog,\n",
        "a.jpg,train,cat\nb.jpg,val,dog\nsub/c d.jpg,test,cat\n#5.jpg,,dog\n",
        "#5.jpg,,dog\na.jpg,train,cat\nb.jpg,val,dog\nsub/c d.jpg,test,cat\n",
        "path,label,my column\na.jpg,cat,train\nb.jpg,dog,Validation\nsub/c d.jpg,cat,test\n#5.jpg,dog,\n",
        "path,label,is_train,is_val,test\na.jpg,cat,1,0,0\nb.jpg,dog,0,1,0\nsub/c d.jpg,cat,0,1,1\n#5.jpg,dog,0,0,0\n",
    ],
)
def test_a_column_divides(folder: Path, text: str) -> None:
    items = read(folder, text)
    assert dict(zip(items.ids, items.parts.tolist(), strict=True)) == {
        "a.jpg": "train", "b.jpg": "validation", "sub/c d.jpg": "test", "#5.jpg": ""
    }  # fmt: skip
    assert items.class_names == ("cat", "dog")
    assert items.division


@pytest.mark.parametrize(("flag", "yes", "no"), [("is_test", "test", "train"), ("Train", "train", "test")])
def test_one_column_of_yes_and_no_divides_all(folder: Path, flag: str, yes: str, no: str) -> None:
    items = read(folder, f"path,label,{flag}\na.jpg,cat,True\nb.jpg,dog,False\n")
    assert items.parts.tolist() == [yes, no]
    assert items.division == f"the column '{flag}'"
    assert not read(folder, f"path,label,{flag}\na.jpg,cat,17\nb.jpg,dog,23\n").division


def test_a_column_of_other_things_divides_nothing_and_is_named(folder: Path) -> None:
    items = read(folder, "path,label,set\na.jpg,cat,A\nb.jpg,dog,B\n")
    assert not items.division
    assert any("'A', 'B'" in note for note in items.notes)
    items = read(folder, "path,label,split\na.jpg,cat,train\nb.jpg,dog,later\n")
    assert items.parts.tolist() == ["train", ""]
    assert any("'later'" in note for note in items.notes)


def test_one_image_in_two_parts_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match=r"one part per image, .* 'train' in line 2 and as 'test' in line 3"):
        read(folder, "path,label,split\na.jpg,cat,train\na.jpg,cat,test\n")


def test_folders_in_the_paths_divide_where_no_column_does(folder: Path) -> None:
    for name in ("train/1.jpg", "test/1.jpg"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(JPEG)
    assert read(folder, "train/1.jpg cat\ntest/1.jpg dog\n", "list.txt").parts.tolist() == ["train", "test"]
    assert not read(folder, "test/1.jpg dog\n", "list.txt").division, (
        "a list of test images alone is what was asked for"
    )


def test_a_row_without_a_path_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "list.csv").write_text("label,path\nx,a.png\ny\nz,\n\n , \n")
    items = load_items(tmp_path / "list.csv")
    assert items.ids == ("a.png",)
    assert [(q.id, q.reason) for q in items.quarantined] == [
        ("list.csv, line 3", "the row names no file"),
        ("list.csv, line 4", "the row names no file"),
    ]


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_only_line_breaks_end_a_line(tmp_path: Path, sign: str) -> None:
    name = f"a{sign}b.png"
    (tmp_path / name).write_bytes(encoded(picture(), "PNG"))
    for file, text in (("list.csv", f"path,label\r\n{name},x\r\n"), ("list.txt", f"{name}\n")):
        (tmp_path / file).write_bytes(text.encode())
        assert load_items(tmp_path / file).ids == (name,)
