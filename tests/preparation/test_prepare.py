"""Fetching, checking, unpacking and counting what published sets are made of, against a server and archives of ours."""

import dataclasses
import hashlib
import http.server
import io
import json
import os
import pathlib
import tarfile
import threading
import zipfile

import pytest

from fiat_jax.data import sources
from fiat_jax.errors import UserError
from fiat_jax.preparation import archives, download, prepare
from fiat_jax.preparation.files import rows
from fiat_jax.preparation.sets import Part, Remote, Set

CONTENT = os.urandom(300_000)


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves CONTENT with ranges; `breaks` cuts that many answers short, `log` keeps the ranges that were asked for."""

  breaks, status, tag = 0, 200, '"one"'
  log: list[str | None]

  def do_GET(self):
    kind = type(self)
    kind.log.append(self.headers.get("Range"))
    if kind.status != 200:
      self.send_error(kind.status)
      return
    start = 0
    if (asked := self.headers.get("Range")) and self.headers.get("If-Range") == kind.tag:
      start = int(asked.removeprefix("bytes=").removesuffix("-"))
    self.send_response(206 if start else 200)
    self.send_header("Content-Length", str(len(CONTENT) - start))
    self.send_header("ETag", kind.tag)
    self.end_headers()
    end = len(CONTENT)
    if kind.breaks:
      kind.breaks -= 1
      end = start + (len(CONTENT) - start) // 2
    self.wfile.write(CONTENT[start:end])

  def log_message(self, *arguments):
    pass


@pytest.fixture
def server():
  kind = type("Here", (Handler,), {"log": []})
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield kind, f"http://127.0.0.1:{running.server_port}/set.bin"
    running.shutdown()


def _partial(folder: pathlib.Path, content: bytes, tag: str) -> None:
  folder.mkdir()
  (folder / "set.bin.partial").write_bytes(content)
  (folder / "set.bin.partial.version").write_text(tag)


def test_a_download_that_breaks_goes_on_where_it_was(server, tmp_path):
  kind, address = server
  kind.breaks = 2
  file = download.fetch(Remote(address, len(CONTENT), hashlib.sha256(CONTENT).hexdigest()), tmp_path)
  assert file.read_bytes() == CONTENT and kind.log == [None, "bytes=150000-", "bytes=225000-"]
  download.fetch(Remote(address), tmp_path)
  assert len(kind.log) == 3, "what is there is not fetched again"
  assert [path.name for path in tmp_path.iterdir()] == ["set.bin"]


def test_a_download_of_another_version_begins_anew(server, tmp_path):
  kind, address = server
  _partial(tmp_path / "a", CONTENT[:1000], '"one"')
  assert download.fetch(Remote(address), tmp_path / "a").read_bytes() == CONTENT and kind.log == ["bytes=1000-"]
  _partial(tmp_path / "b", b"x" * 1000, '"older"')
  assert download.fetch(Remote(address), tmp_path / "b").read_bytes() == CONTENT


def test_a_wrong_size_or_hash_is_told_and_nothing_is_kept(server, tmp_path):
  _, address = server
  with pytest.raises(UserError, match=r"has 300,000 bytes, and set.bin has 7: fetch http://.* again"):
    download.fetch(Remote(address, size=7), tmp_path)
  with pytest.raises(UserError, match=r"has the SHA-256 \w{16}…, and set.bin as published 0000.*damaged, or another"):
    download.fetch(Remote(address, sha256="0" * 64), tmp_path)
  assert not list(tmp_path.iterdir())


def test_without_the_file_or_a_network_one_line_says_where_it_is(server, tmp_path):
  kind, address = server
  kind.status = 404
  with pytest.raises(UserError, match=r"set.bin: cannot be fetched \(HTTP 404 .*give the file with --from FILE"):
    download.fetch(Remote(address), tmp_path)
  assert len(kind.log) == 1, "a file that is not there is not asked for again"
  nobody = Remote("http://127.0.0.1:9/set.bin")
  with pytest.raises(UserError, match=r"127.0.0.1:9/set.bin: cannot be fetched \(.*refused.*where there is a network"):
    download.fetch(nobody, tmp_path)


def _tar(path: pathlib.Path, *members: tuple[str, bytes], link: str = "") -> pathlib.Path:
  with tarfile.open(path, "w:gz") as packed:
    for name, content in members:
      info = tarfile.TarInfo(name)
      info.size = len(content)
      if link:
        info.type, info.linkname, info.size = tarfile.SYMTYPE, link, 0
      packed.addfile(info, io.BytesIO(content))
  return path


def _zip(path: pathlib.Path, *members: tuple[str, bytes]) -> pathlib.Path:
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
    for name, content in members:
      packed.writestr(name, content)
  return path


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_only_what_is_wanted_is_unpacked(pack, tmp_path):
  suffix = ".tgz" if pack is _tar else ".zip"
  archive = pack(tmp_path / f"a{suffix}", ("top/data/a.csv", b"1"), ("top/other/b.csv", b"2"), ("./data/c.csv", b"3"))
  assert archives.unpack(archive, r"data/\w+\.csv", tmp_path / "out", 100) == 2
  found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.csv")}
  assert found == {"top/data/a.csv", "data/c.csv"}


@pytest.mark.parametrize("name", ["../data/a.csv", "/data/a.csv", "x/../../data/a.csv", "C:/data/a.csv"])
@pytest.mark.parametrize("pack", [_tar, _zip])
def test_no_member_leads_out_of_the_folder(pack, name, tmp_path):
  archive = pack(tmp_path / ("a.tgz" if pack is _tar else "a.zip"), (name, b"1"))
  with pytest.raises(UserError, match="leads out of the folder"):
    archives.unpack(archive, r"data/\w+\.csv", tmp_path / "in" / "out", 100)
  assert not list(tmp_path.rglob("a.csv"))


def test_links_bombs_and_broken_archives_are_refused(tmp_path):
  with pytest.raises(UserError, match="is a link or a device"):
    archives.unpack(_tar(tmp_path / "l.tgz", ("data/a.csv", b""), link="/etc/passwd"), r"a\.csv", tmp_path, 100)
  with pytest.raises(UserError, match=r"unpacks to more than 1,000 bytes"):
    archives.unpack(_zip(tmp_path / "b.zip", ("a.csv", b"0" * 10**6)), r"a\.csv", tmp_path / "out", 1000)
  whole = _tar(tmp_path / "w.tgz", ("a.csv", os.urandom(5000))).read_bytes()
  for name, content in (("t.tgz", whole[:2000]), ("z.zip", b"PK and no more"), ("e.tar", b"")):
    (tmp_path / name).write_bytes(content)
    reason = r"neither zip nor tar" if name[0] in "ze" else ""
    with pytest.raises(UserError, match=rf"is no archive that can be read \({reason}"):
      archives.unpack(tmp_path / name, r"a\.csv", tmp_path / "out", 10**6)


def _convert(files):
  for file, match in files.find(r"(\w\w)\.jsonl"):
    for record in rows(file):
      row = {"lang": match[1], "question": record.text("question"), "target": record.text("target")}
      yield Part("", "test", row)


PUBLISHED = {"test": {"bn": 2, "te": 2, "fi": 1}}


@pytest.fixture
def known():
  return Set(
    name="small",
    title="A small set",
    remotes=(Remote("http://127.0.0.1:9/small.zip"),),
    wanted=r"\w\w\.jsonl",
    convert=_convert,
    published=PUBLISHED,
    licence="none",
    home="http://127.0.0.1:9",
    metric="f1_squad",
  )


def _archive(folder: pathlib.Path, **languages: int) -> pathlib.Path:
  row = {"question": "q", "target": "t"}
  members = [(f"x/{lang}.jsonl", (json.dumps(row) + "\n").encode() * count) for lang, count in languages.items()]
  return _zip(folder / "small.zip", *members)


def test_a_file_already_fetched_becomes_rows_and_says_what_it_was(known, tmp_path):
  archive, folder = _archive(tmp_path, bn=2, te=2, fi=1), tmp_path / "rows"
  made = prepare.prepare(known, folder, archive)
  assert len((folder / "test.jsonl").read_text().splitlines()) == 5
  assert made["rows"] == PUBLISHED and made == json.loads((folder / "prepared.json").read_text())
  assert made["sources"][0]["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
  assert sorted(path.name for path in tmp_path.iterdir()) == ["rows", "small.zip"], "nothing else is left"
  renamed = archive.rename(tmp_path / "download")
  assert prepare.prepare(known, folder, renamed)["rows"] == PUBLISHED


def test_missing_languages_and_rows_are_named_and_counted(known, tmp_path):
  with pytest.raises(UserError, match=r"small is not whole: test bn has 1 of 2 rows; test fi is missing\. Nothing"):
    prepare.prepare(known, tmp_path / "rows", _archive(tmp_path, bn=1, te=2))
  assert not (tmp_path / "rows").exists()
  sample = tmp_path / "sample"
  archives.unpack(_archive(tmp_path, bn=1), r"\w\w\.jsonl", sample, 1000)
  assert prepare.prepare(known, tmp_path / "rows", sample, sample=True)["sample"]


def test_a_language_of_which_no_count_is_published_is_missed_too(known, tmp_path):
  wider = dataclasses.replace(known, spoken={"test": ("fi", "ko"), "": ("sw",)})
  assert wider.least == {"test": {"fi": 1, "ko": 1, "bn": 2, "te": 2}, "": {"sw": 1}}
  with pytest.raises(UserError, match=r"small is not whole: test ko is missing; sw is missing\. Nothing"):
    prepare.prepare(wider, tmp_path / "rows", _archive(tmp_path, bn=2, te=2, fi=1))
  made = prepare.prepare(wider, tmp_path / "rows", _archive(tmp_path, bn=2, te=2, fi=1, ko=9, sw=7))
  assert not made["missing"] and made["rows"]["test"]["ko"] == 9


def test_a_set_with_rows_missing_is_taken_where_that_is_asked_for_and_says_so_ever_after(known, tmp_path, capsys):
  made = prepare.prepare(known, tmp_path / "rows", _archive(tmp_path, bn=1, te=2), incomplete=True)
  assert made["missing"] == ["test bn has 1 of 2 rows", "test fi is missing"] and made["rows"] == {
    "test": {"bn": 1, "te": 2}
  }
  assert "warning: small is not whole: test bn has 1 of 2 rows; test fi is missing" in capsys.readouterr().err
  (tmp_path / "sets").mkdir()
  (tmp_path / "rows").rename(tmp_path / "sets" / "small")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("FIAT_CACHE", str(tmp_path))
    sources.fetch(pathlib.Path("prepared:small:test"))
  assert "prepared:small:test: the set is not whole, as fiat prepare --incomplete took it" in capsys.readouterr().err


def test_a_sample_never_takes_the_place_of_the_set(known, tmp_path):
  archive, folder = _archive(tmp_path, bn=2, te=2, fi=1), tmp_path / "rows"
  archives.unpack(archive, r"\w\w\.jsonl", tmp_path / "sample", 1000)
  prepare.prepare(known, folder, tmp_path / "sample", sample=True)
  prepare.prepare(known, folder, archive)
  with pytest.raises(UserError, match=r"rows: holds the set itself, which its sample does not replace"):
    prepare.prepare(known, folder, tmp_path / "sample", sample=True)
  assert not json.loads((folder / "prepared.json").read_text())["sample"]


def test_more_rows_than_published_are_told(known, tmp_path, capsys):
  prepare.prepare(known, tmp_path / "rows", _archive(tmp_path, bn=2, te=3, fi=1))
  assert "warning: test te has 3 rows, and 2 are published" in capsys.readouterr().err


FAULTS = {
  "another archive": ({"x/readme.txt": "hello"}, "holds none of the files of small"),
  "another field": (
    {"bn.jsonl": '{"query": "q", "target": "t"}'},
    r"^\S*/small.zip/bn.jsonl:1: there is no field 'question'",
  ),
  "no text": ({"bn.jsonl": '{"question": 7, "target": "t"}'}, r"bn.jsonl:1: .*'question' holds a number, not text"),
  "no JSON": ({"bn.jsonl": "question"}, r"bn.jsonl:1: is no JSON"),
  "no rows": ({"bn.jsonl": ""}, "no row of small is in it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_the_set_is_told_by_file_and_line(fault, known, tmp_path):
  members, message = FAULTS[fault]
  archive = _zip(tmp_path / "small.zip", *((name, text.encode()) for name, text in members.items()))
  with pytest.raises(UserError, match=message):
    prepare.prepare(known, tmp_path / "rows", archive)
  assert not (tmp_path / "rows").exists()


def test_a_folder_of_someone_elses_is_never_emptied(known, tmp_path):
  (tmp_path / "rows").mkdir()
  (tmp_path / "rows" / "thesis.txt").write_text("mine")
  with pytest.raises(UserError, match="was not made by fiat prepare"):
    prepare.prepare(known, tmp_path / "rows", _archive(tmp_path, bn=2, te=2, fi=1))
  assert (tmp_path / "rows" / "thesis.txt").read_text() == "mine"


def test_given_files_that_are_not_there_are_told(known, tmp_path):
  with pytest.raises(UserError, match=r"nothing.zip: is not there"):
    prepare.prepare(known, tmp_path / "rows", tmp_path / "nothing.zip")


def test_the_command_lists_the_sets_and_knows_their_names(capsys, tmp_path, monkeypatch):
  from fiat_jax import cli

  monkeypatch.setenv("FIAT_CACHE", str(tmp_path))  # where no other test has prepared a set
  assert cli.main(["prepare"]) == 0
  assert "xtreme_up" in capsys.readouterr().out
  assert cli.main(["prepare", "xtreme_upp"]) == 2
  assert "did you mean xtreme_up?" in capsys.readouterr().err
  assert cli.main(["validate", "--test", "prepared:gsm8k:test"]) == 2
  assert "prepared:gsm8k:test: is not there yet: fiat prepare gsm8k" in capsys.readouterr().err
