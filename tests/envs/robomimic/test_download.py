"""Robomimic's published files from a server: named as published, checked with and without h5py."""

import sys

import file_server
import pytest
import robomimic_files

import trqam_jax.download
from envs.base import DataError
from envs.robomimic import SUITE, download, install, sources
from trqam_jax.download import MIRRORS_VARIABLE, Patience
from trqam_jax.errors import UserError

CAN, SQUARE = SUITE.domains["robomimic-can"], SUITE.domains["robomimic-square"]
NAME = "can/mh/low_dim_v15.hdf5"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def nobody_outside(monkeypatch):
    """The published place is where nobody answers, and nobody waits."""
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    monkeypatch.setattr(trqam_jax.download, "PATIENCE", Patience(2, 5, 2, 0.0))


def find(folder, way="auto"):
    return SUITE.find(CAN, "auto", str(folder), episodes=1, seed=0, shards=0, download=way)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return robomimic_files.write(tmp_path_factory.mktemp("made") / "made.hdf5", CAN, (40, 30)).read_bytes()


@pytest.fixture
def make_server():
    with file_server.servers() as start:
        yield start


@pytest.fixture
def without_h5py(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)


@pytest.fixture
def all_installed(monkeypatch):
    """As far as `find` is concerned, which then goes on to the files."""
    monkeypatch.setattr(install, "require", lambda *modules: None)


def test_files_are_named_as_published():
    for domain in SUITE.domains.values():
        short = domain.name.removeprefix("robomimic-")
        assert sources.file_name(domain) == f"{short}/mh/low_dim_v15.hdf5"
        assert sources.file_name(domain, "ph") == f"{short}/ph/low_dim_v15.hdf5"
    assert sources.file_name(CAN, "mg-sparse") == "can/mg/low_dim_sparse_v15.hdf5"
    assert sources.file_name(CAN, "mg-dense") == "can/mg/low_dim_dense_v15.hdf5"
    with pytest.raises(UserError, match=r"^--data=mg-dense: robomimic-square has no such file\. Choices: mh, ph\.$"):
        sources.file_name(SQUARE, "mg-dense")
    with pytest.raises(UserError, match=r"^--data=mg: robomimic-can has no such file\..* Choices: mh, ph, mg-sparse, "):
        sources.file_name(CAN, "mg")


def test_the_command_resumes_behind_a_redirect_and_verifies(make_server, tmp_path, content, capsys):
    front, back, half = make_server({}), make_server({"/blob": content}, faults=["truncate"]), len(content) // 2
    front.redirects = {f"/{NAME}": f"{back.url}/blob"}
    flags = ["--env=can-mh", f"--dataset_dir={tmp_path}"]
    download.main([*flags, f"--mirror={front.url}"])
    target = tmp_path / NAME
    assert target.read_bytes() == content
    assert back.requests[1:] == [["/blob", f"bytes={half}-", len(content) - half]]
    assert f"{target}: {len(content):,} bytes, downloaded" in capsys.readouterr().out
    download.main([*flags, "--verify"])
    assert f"{target}: intact, sha256 as at download" in capsys.readouterr().out
    target.write_bytes(content[:-1])
    with pytest.raises(SystemExit):
        download.main([*flags, "--verify"])
    assert f"damaged ({len(content) - 1:,} bytes of {len(content):,})" in capsys.readouterr().err
    download.main([*flags, "--remove"])
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_data_is_its_own_file(make_server, tmp_path, content):
    server = make_server({"/lift/mg/low_dim_dense_v15.hdf5": content})
    download.main(["--env=robomimic-lift", "--data=mg-dense", f"--dataset_dir={tmp_path}", f"--mirror={server.url}"])
    assert (tmp_path / "lift/mg/low_dim_dense_v15.hdf5").read_bytes() == content
    for flags, message in (
        (["--env=robomimic-lift", "--data=image"], r"^error: --data=image: robomimic-lift has no such file"),
        (["--env=robomimic-transport"], r"^error: Unknown environment 'robomimic-transport'"),
    ):
        with pytest.raises(SystemExit, match=message):
            download.main(flags)


@pytest.mark.parametrize("h5py_is_there", [True, False])
def test_what_is_no_whole_file_is_refused(
    make_server, tmp_path, content, h5py_is_there, request, monkeypatch, all_installed
):
    if not h5py_is_there:
        request.getfixturevalue("without_h5py")
    for spoilt, reason in (
        (b"<html>Please log in</html>", "it does not begin as HDF5 does"),
        (content[: len(content) // 2], f"{len(content) // 2:,} bytes of {len(content):,}"),
        (content[:20], "its superblock is none that is known"),
        (content[:8] + b"\x09" + content[9:], "its superblock is none that is known"),
    ):
        server = make_server({f"/{NAME}": spoilt})
        monkeypatch.setenv(MIRRORS_VARIABLE, server.url)
        with pytest.raises(DataError, match=rf"bytes arrived, no intact hdf5 \({reason}\);"):
            find(tmp_path)
        assert not (tmp_path / NAME).exists()
    server.files[f"/{NAME}"] = content
    assert find(tmp_path).read_bytes() == content


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_every_superblock_says_how_long_the_file_is(tmp_path, version):
    path = tmp_path / "file.hdf5"
    with robomimic_files.h5py.File(path, "w", libver=version) as file:
        file["data/numbers"] = range(1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        assert download.damage(path) is None
        path.write_bytes(path.read_bytes()[:-1])
        assert " bytes of " in str(download.damage(path))


def test_what_hdf5_cannot_read_is_damaged(tmp_path, content):
    path = tmp_path / "file.hdf5"
    path.write_bytes(content)
    assert download.damage(path) is None
    begin = content.index(b"TREE")  # the index of a group
    path.write_bytes(content[:begin] + b"EERT" + content[begin + 4 :])
    assert download.damage(path)
    with robomimic_files.h5py.File(path, "w") as file:
        file["numbers"] = range(3)
    assert download.damage(path) == "it has no /data"


def test_find_downloads_what_is_missing(make_server, tmp_path, content, monkeypatch, all_installed, capsys):
    """From the Hub, and nobody is asked a second time."""
    hub = file_server.hub(make_server, {"robomimic/robomimic_datasets": {f"v1.5/{NAME}": content}})
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert find(tmp_path) == tmp_path / NAME
    assert (tmp_path / NAME).read_bytes() == content
    assert f"from {sources.HUB}/can/mh into {tmp_path}" in capsys.readouterr().out
    before = hub.connections
    assert find(tmp_path) == tmp_path / NAME
    assert hub.connections == before


def test_a_download_that_fails_says_how_to_go_on(tmp_path, monkeypatch, all_installed):
    for way, reason in (("auto", r"not downloaded \(.*: cannot be reached"), ("never", "Get them by `python -m envs")):
        with pytest.raises(DataError, match=reason) as raised:
            find(tmp_path, way)
        message = str(raised.value)
        assert "\n" not in message
        assert "--dataset=PATH" in message
        assert "make scripted demonstrations, which are not the published multi-human data" in message
