"""Files that are one document each: what their titles and their texts are."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tandem.engine.collection import Document, open_corpus, read_corpus
from tandem.engine.errors import CorpusError


def read(path: Path, data: str | bytes) -> tuple[str, str]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    (document,) = read_corpus(path)
    assert document.id == path.name
    return document.title, document.text


def test_a_plain_text(tmp_path: Path) -> None:
    assert read(tmp_path / "My note.txt", "\ufeff# no heading\n") == ("My note", "# no heading\n")
    assert read(tmp_path / "n.txt.gz", gzip.compress(b"x")) == ("n", "x")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("intro\n\n## The *heading* ##\n", "The *heading*"),
        ("no heading", "n"),
        ("#\n# Second", "Second"),
        ("```sh\n# a comment\n```\n# Heading", "Heading"),
        ("~~~\n# a comment", "n"),
        ("Underlined\n==========\n\n# Later", "Underlined"),
        ("---\ntitle: 'From the front'\ntags: [a]\n---\n# Heading", "From the front"),
        ("---\n# a comment\ntags: [a]\n---\n# Heading", "Heading"),
        ("---\n\nonly a rule\n# Heading", "Heading"),
    ],
)
@pytest.mark.parametrize("ending", [".md", ".markdown"])
def test_the_title_of_markdown(tmp_path: Path, text: str, title: str, ending: str) -> None:
    assert read(tmp_path / f"n{ending}", text) == (title, text)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Title\n=====\n\ntext", "Title"),
        ("*****\nOver\n*****\n", "Over"),
        (".. note:: x\n\nA heading\n---------\n", "A heading"),
        ("Too long for it\n===\n", "n"),
        ("-----\n", "n"),
    ],
)
def test_the_title_of_restructured_text(tmp_path: Path, text: str, title: str) -> None:
    assert read(tmp_path / "n.rst", text) == (title, text)


@pytest.mark.parametrize(
    ("page", "title", "text"),
    [
        ("<title>A &amp;\n B</title><h1>H</h1><p>x", "A & B", "H\n\nx"),
        ("<h1>The <i>H</i></h1>x<h1>2</h1>", "The H", "The H\nx\n2"),
        ("plain", "n", "plain"),
        ("<p>one\n  two</p><p>three<br>four</p>", "n", "one two\n\nthree\nfour"),
        (
            "<script>if (a < b) evil()</script>x<style>p{}</style><noscript>no</noscript><svg><title>t</title></svg>",
            "n",
            "x",
        ),
        ("<ul><li>a</li><li>b <b>c</b>d</ul>", "n", "a\nb cd"),
        ("<table><tr><th>k<th>v<tr><td>1</td><td>2</td></tr></table>", "n", "k\tv\n1\t2"),
        ("<pre>  a\n    b\n</pre>after", "n", "  a\n    b\nafter"),
        ("a<!-- no --> &lt;b&gt; &#252;&nbsp;c", "n", "a <b> ü\xa0c"),
        ("<div>x</div></p></unknown>y", "n", "x\n\ny"),
    ],
)
def test_a_page(tmp_path: Path, page: str, title: str, text: str) -> None:
    assert read(tmp_path / "n.html", page) == (title, text)
    assert read(tmp_path / "n.htm.gz", gzip.compress(page.encode())) == (title, text)


def test_a_page_without_text(tmp_path: Path) -> None:
    (tmp_path / "n.html").write_text("<script>only()</script>")
    with pytest.raises(CorpusError, match="has no text"):
        list(read_corpus(tmp_path / "n.html"))


def a_pdf(*pages: str, title: str = "") -> bytes:
    """A PDF of some pages with a line of text each."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, words in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 700 Td ({words}) Tj ET"
        parts = f"/Contents {5 + 2 * number} 0 R /Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] {parts} >>")
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    objects.append(f"<< /Title ({title}) >>")
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R"
    return data + f"{end} /Info {len(objects)} 0 R >>\nstartxref\n{len(data)}\n%%EOF\n".encode()


def test_a_pdf(tmp_path: Path) -> None:
    pytest.importorskip("pypdf", reason="pypdf is optional")
    assert read(tmp_path / "n.pdf", a_pdf("First page", "Second page", title="Report")) == (
        "Report", "First page\n\nSecond page"
    )  # fmt: skip
    assert read(tmp_path / "m.pdf.gz", gzip.compress(a_pdf("x"))) == ("m", "x")


def test_pdfs_that_cannot_be_read(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is optional")
    secret = pypdf.PdfWriter()
    secret.add_blank_page(100, 100)
    secret.encrypt("word", algorithm="RC4-128")
    secret.write(tmp_path / "secret.pdf")
    (tmp_path / "scan.pdf").write_bytes(a_pdf(""))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    for name, said in {"secret": "needs a password", "scan": "no text, as a scan", "broken": "cannot be read"}.items():
        with pytest.raises(CorpusError, match=rf"{name}\.pdf: the PDF .*{said}|{name}\.pdf: the PDF {said}"):
            list(read_corpus(tmp_path / f"{name}.pdf"))


def test_a_docx(tmp_path: Path) -> None:
    library = pytest.importorskip("docx", reason="python-docx is optional")
    document = library.Document()
    document.add_paragraph("Before.")
    document.add_heading("Chapter", level=1)
    table = document.add_table(rows=2, cols=2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{number}"
    table.cell(1, 0).merge(table.cell(1, 1))
    document.add_paragraph("After.")
    path = tmp_path / "n.docx"
    document.save(path)
    assert read(path, path.read_bytes()) == ("Chapter", "Before.\nChapter\nc0\tc1\nc2 c3\nAfter.")
    document.core_properties.title = "Named"
    document.save(path)
    assert read(path, path.read_bytes())[0] == "Named"


def test_what_is_no_docx(tmp_path: Path) -> None:
    pytest.importorskip("docx", reason="python-docx is optional")
    (tmp_path / "n.docx").write_bytes(b"PK nothing")
    with pytest.raises(CorpusError, match=r"n\.docx: the DOCX cannot be read"):
        list(read_corpus(tmp_path / "n.docx"))


@pytest.mark.parametrize(("name", "module"), [("n.pdf", "pypdf"), ("n.docx", "docx"), ("n.docx.gz", "docx")])
def test_without_its_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"run `pip install 'tandem\[documents\]'`"):
        open_corpus(tmp_path / name)


@pytest.mark.parametrize("rename", [lambda path: path, lambda path: path.rename(path.with_name("other.txt"))])
def test_the_name_is_part_of_what_is_indexed(tmp_path: Path, rename: Callable[[Path], Path]) -> None:
    (tmp_path / "n.txt").write_text("x")
    before = open_corpus(tmp_path / "n.txt").source.fingerprint
    after = rename(tmp_path / "n.txt")
    assert (open_corpus(after).source.fingerprint == before) == (after.name == "n.txt")


def test_a_document_that_changes_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_text("x")
    corpus = open_corpus(tmp_path)
    (tmp_path / "n.txt").write_text("y")
    with pytest.raises(CorpusError, match=r"n\.txt changed while it was read; index it again"):
        list(corpus)
    assert list(open_corpus(tmp_path)) == [Document("n.txt", "n", "y")]
