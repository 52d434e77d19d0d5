"""OGBench's files: named and placed as published; fetched by a run, verified, listed and removed by the command."""

import hashlib
import io
import pathlib
import signal
import subprocess
import sys
import time
import zipfile
from unittest.mock import Mock

import file_server
import numpy as np
import pytest

import trqam_jax.download
from envs import SUITES, commands
from envs.base import DataError
from envs.ogbench import SUITE, download, sources
from envs.ogbench import files as ogbench
from trqam_jax.download import DownloadError
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]
CUBE, PUZZLE, GIANT = (SUITE.domains[name] for name in ("cube-single", "puzzle-4x4", "antmaze-giant"))
NAME, VAL = "cube-single-play-v0.npz", "cube-single-play-v0-val.npz"
NOBODY = "http://127.0.0.1:9"
OGBENCH_URL = sources.OGBENCH_URL


def npz(seed, size=50_000):
    """The bytes of an npz of about `size` bytes that do not compress."""
    file = io.BytesIO()
    np.savez(file, observations=np.random.default_rng(seed).bytes(size), actions=np.arange(9.0))
    return file.getvalue()


CONTENT, OTHER = npz(0), npz(1, 60_000)
HALF = len(CONTENT) // 2


@pytest.fixture
def start():
    with file_server.servers() as start:
        yield start


@pytest.fixture
def plain(start):
    """A server with a plain set."""
    return start({f"/{NAME}": CONTENT, f"/{VAL}": OTHER})


@pytest.fixture(autouse=True)
def nobody_outside(monkeypatch):
    """The published places are where nobody answers, and nobody waits."""
    monkeypatch.setattr(sources, "OGBENCH_URL", f"{NOBODY}/ogbench")
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    monkeypatch.setattr(trqam_jax.download, "PATIENCE", trqam_jax.download.Patience(2, 5, 2, 0.0))


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / NAME


def find(domain, folder, shards=0, dataset="auto", way="auto"):
    return ogbench.find(domain, dataset, str(folder), episodes=1, seed=0, shards=shards, download=way)


def shards_of(domain, count, size=300):
    """{path on a server: content}."""
    return {f"/{name}": npz(i, size) for i, name in enumerate(sources.file_names(domain, count))}


def wait_until(condition):
    deadline = time.time() + 20
    while not condition():
        assert time.time() < deadline
        time.sleep(0.01)


def start_command(*arguments, out=subprocess.PIPE):
    command = [sys.executable, "-m", "envs.download", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True)


def test_two_processes_transfer_each_file_once(plain, target):
    plain.faults = ["hold", "hold"]
    flags = ("--env=cube-single-task1", f"--mirror={plain.url}", f"--dataset_dir={target.parent}")
    with start_command(*flags) as first:
        wait_until(lambda: len(plain.requests) == 2)
        with start_command(*flags) as second:
            waiting = [second.stdout.readline() for _ in range(3)]
            plain.gate.set()
            outputs = first.communicate()[0], "".join(waiting) + second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert sum("waiting for another process" in line for line in waiting) == 2, waiting
    assert sorted(request[0] for request in plain.requests) == sorted(plain.files)
    for name in (NAME, VAL):
        lines = [line for text in outputs for line in text.splitlines() if f"/{name}: " in line]
        assert sum(line.endswith(" bytes, downloaded") for line in lines) == 1
        assert sum(line.endswith(" bytes, was there already") for line in lines) == 1
    assert target.read_bytes() == CONTENT


def test_verify_reads_everything(plain, target, capsys):
    flags = ["--env=cube-single", f"--dataset_dir={target.parent}"]
    verify = [*flags, "--verify"]
    with pytest.raises(SystemExit):
        download.main(verify)
    assert capsys.readouterr().err.count("no such file; download it first") == 2
    download.main([*flags, f"--mirror={plain.url}"])
    download.main(verify)
    assert capsys.readouterr().out.count("intact, sha256 as at download") == 2

    flipped = bytearray(CONTENT)
    flipped[HALF] ^= 1
    target.write_bytes(flipped)
    with pytest.raises(SystemExit) as raised:
        download.main(verify)
    output = capsys.readouterr()
    assert raised.value.code == 1
    assert "damaged (the CRC of observations.npy is wrong)" in output.err
    assert output.out.count("intact") == 1  # the other file

    target.write_bytes(OTHER)  # a right npz, but not the one that was downloaded
    with pytest.raises(DownloadError, match=hashlib.sha256(CONTENT).hexdigest()):
        trqam_jax.download.verify(target, download.damage)
    (target.parent / f"{NAME}.sha256").unlink()
    assert not trqam_jax.download.verify(target, download.damage)


def test_every_flipped_byte_is_noticed(target):
    """By the zip or by the recorded checksum, and always as a DownloadError."""
    content, rng = npz(2, size=300), np.random.default_rng(0)
    target.parent.mkdir()
    target.with_name(f"{NAME}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {NAME}\n")
    for position in range(len(content)):
        spoilt = bytearray(content)
        spoilt[position] ^= 1 << int(rng.integers(8))
        target.write_bytes(spoilt)
        with pytest.raises(DownloadError):
            trqam_jax.download.verify(target, download.damage)
    target.write_bytes(content)
    assert trqam_jax.download.verify(target, download.damage)


def test_an_empty_zip_is_no_data(tmp_path):
    path = tmp_path / NAME
    zipfile.ZipFile(path, "w").close()
    assert "it is empty" in str(download.damage(path))


def test_files_and_folders_are_named_as_ogbench_names_them():
    import ogbench.utils

    assert OGBENCH_URL == ogbench.utils.DATASET_URL
    assert sources.file_names(CUBE) == ["cube-single-play-v0.npz", "cube-single-play-v0-val.npz"]
    shards = sources.file_names(SUITE.domains["puzzle-4x4"], 2)
    assert shards[:2] == [f"puzzle-4x4-play-100m-v0/puzzle-4x4-play-v0-000{end}.npz" for end in ("", "-val")]
    assert shards[2] == "puzzle-4x4-play-100m-v0/puzzle-4x4-play-v0-001.npz"
    with pytest.raises(SystemExit, match="--timeout: expected seconds above 0"):
        download.main(["--env=cube-single", "--timeout=0"])
    with pytest.raises(UserError, match="--shards=101"):
        sources.file_names(CUBE, 101)


def test_a_run_gets_the_plain_set_from_the_first_place_that_has_it(start, plain, tmp_path, monkeypatch, capsys):
    """Mirrors, then OGBench's server, then the Hub; nobody is asked a second time."""
    own, hub = start({f"/{NAME}": CONTENT}), file_server.hub(start, {"zhouzypaul/ogbench_datasets": {VAL: OTHER}})
    monkeypatch.setattr(sources, "OGBENCH_URL", own.url)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", f"{NOBODY} {start({}).url}")
    path = find(CUBE, tmp_path / "new")
    assert path == tmp_path / "new" / NAME
    assert (path.read_bytes(), ogbench.partner(path).read_bytes()) == (CONTENT, OTHER)
    said = capsys.readouterr()
    assert said.out.startswith(f"downloading 2 files ({NAME}, ...): 111kB, from {own.url}, {sources.HUB} into ")
    assert f"{own.url}/{VAL}: HTTP 404 Not Found; trying {sources.HUB}/{VAL}\n" in said.err
    before = own.connections, hub.connections
    assert find(CUBE, tmp_path / "new") == path
    assert (own.connections, hub.connections) == before


@pytest.mark.parametrize("way", ["never", "ask"])
def test_a_run_that_may_not_download_says_by_which_command(start, tmp_path, way, monkeypatch):
    server = start(shards_of(PUZZLE, 2))
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", server.url)
    with pytest.raises(DataError) as raised:
        find(PUZZLE, tmp_path / "my data", 2, way=way)
    message = str(raised.value)
    assert "of puzzle-4x4-play-100m-v0 4 of 4 files are missing" in message
    command = f"python -m envs.download --env=puzzle-4x4 --shards=2 --dataset_dir='{tmp_path}/my data'"
    assert f"`{command}`" in message
    assert "--dataset=generate" in message
    assert "\n" not in message
    assert server.connections == 0


def test_who_is_asked_may_say_no(plain, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", plain.url)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: print(prompt) or "")
    with pytest.raises(DataError, match="were not to be downloaded"):
        find(CUBE, tmp_path, way="ask")
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["downloading", "download?"]
    monkeypatch.setattr("builtins.input", Mock(side_effect=EOFError))  # Ctrl-D
    with pytest.raises(DataError, match="were not to be downloaded"):
        find(CUBE, tmp_path, way="ask")
    assert plain.requests == []
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert find(CUBE, tmp_path, way="ask").read_bytes() == CONTENT


def test_missing_shards_alone_are_fetched(start, tmp_path, monkeypatch):
    server = start(shards_of(PUZZLE, 3))
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", server.url)
    folder = find(PUZZLE, tmp_path, 2)
    assert folder == tmp_path / "puzzle-4x4-play-100m-v0"
    assert len(server.requests) == 4
    (folder / "puzzle-4x4-play-v0-001-val.npz").unlink()
    assert find(PUZZLE, tmp_path, 3) == folder
    assert {path[-11:] for path, *_ in server.requests[4:]} == {"001-val.npz", "002-val.npz", "-v0-002.npz"}
    assert len(ogbench.shard_files(folder, 3)) == 3
    before = server.connections
    assert find(PUZZLE, tmp_path, 3) == folder
    assert server.connections == before


def test_shards_by_other_names_are_taken_as_they_are(tmp_path):
    folder = tmp_path / sources.shard_folder(GIANT)
    folder.mkdir()
    for name in ("mine-000.npz", "mine-000-val.npz"):
        (folder / name).write_bytes(CONTENT)
    assert find(GIANT, tmp_path, 1) == folder


@pytest.fixture
def giant(start, monkeypatch):
    """A Hub with the 10M set, its files named as nobody here knows beforehand."""
    paths = [f"deep/set_{letter}{end}.npz" for letter in "cabdefghij" for end in ("", "-val")]
    files = {path: npz(i, 300) for i, path in enumerate(paths)} | {"README.md": b"of the set"}
    hub = file_server.hub(start, {"yonghoon96/antmaze-giant-navigate-10m-v0": files})
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.contents = files
    return hub


def test_the_10m_set_is_what_its_repository_lists(giant, tmp_path, capsys):
    folder = find(GIANT, tmp_path, 10)
    assert folder.name == "antmaze-giant-navigate-10m-v0"
    for number, letter in enumerate("abcdefghij"):
        for end in ("", "-val"):
            file = folder / f"antmaze-giant-navigate-v0-{number:03d}{end}.npz"
            assert file.read_bytes() == giant.contents[f"deep/set_{letter}{end}.npz"]
    assert "its files are listed, and its npz files taken in sorted order" in capsys.readouterr().out
    before = giant.connections
    assert find(GIANT, tmp_path, 10) == folder
    assert giant.connections == before


def test_a_repository_without_the_expected_files_is_one_error(start, tmp_path, monkeypatch, plain):
    hub = file_server.hub(start, {"yonghoon96/antmaze-giant-navigate-10m-v0": {"all.npz": b""}})
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(DataError, match=r"expected 1 npz files, each with its -val\.npz, it lists all\.npz") as raised:
        find(GIANT, tmp_path, 1)
    assert "\n" not in str(raised.value)
    mirror = start(shards_of(GIANT, 1))
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", mirror.url)
    assert len(list(find(GIANT, tmp_path, 1).glob("*.npz"))) == 2


@pytest.fixture
def one_at_a_time(monkeypatch):
    """The first file fails first."""
    monkeypatch.setattr("trqam_jax.download.AT_ONCE", 1)


@pytest.mark.usefixtures("one_at_a_time")
def test_without_network_or_offline_there_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(DataError) as raised:
        find(CUBE, tmp_path)
    message = str(raised.value)
    assert f"({NOBODY}/ogbench/{NAME}: cannot be reached (" in message
    assert f"; {sources.HUB}/{NAME}: 127.0.0.1:9 could not be reached before);" in message
    assert "--dataset=generate make a small one" in message
    assert "\n" not in message
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for domain, shards in ((CUBE, 0), (GIANT, 10)):
        with pytest.raises(DataError, match="HF_HUB_OFFLINE") as raised:
            find(domain, tmp_path, shards)
        assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_page_in_place_of_a_file_is_refused(start, plain, tmp_path, monkeypatch):
    page = start(dict.fromkeys(plain.files, b"<html>Please log in</html>"))
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", page.url)
    with pytest.raises(DataError, match=r"26 bytes arrived, no intact npz \(File is not a zip file\)"):
        find(CUBE, tmp_path)
    assert not list(tmp_path.glob("cube*"))


def test_killed_in_the_third_of_ten_shards_resumes_there(start, tmp_path):
    """What is whole stays, the beginning of what is not is gone on with, and no byte comes twice."""
    server = start(shards_of(PUZZLE, 10, 40_000))
    third = sources.file_names(PUZZLE, 3)[4]
    server.stuck = list(server.files)[4:]
    flags = ("--env=puzzle-4x4", "--shards=10", f"--mirror={server.url}", f"--dataset_dir={tmp_path}")
    part = tmp_path / f"{third}.part"
    with start_command(*flags, out=subprocess.DEVNULL) as process:
        try:
            # Four whole and four on their way: what the server still hears of after the kill would count as the next's.
            wait_until(lambda: part.exists() and part.stat().st_size and len(server.requests) == 8)
        finally:
            process.send_signal(signal.SIGKILL)
    parts = {path.name.removesuffix(".part"): path.stat().st_size for path in tmp_path.glob("*/*.part")}
    assert not (tmp_path / third).exists()
    server.stuck, before = (), len(server.requests)
    server.gate.set()
    assert len(ogbench.shard_files(find_by(server, tmp_path), 10)) == 10
    ranges = {path.rpartition("/")[2]: wanted for path, wanted, _ in server.requests[before:]}
    assert len(ranges) == len(server.requests[before:]) == 16
    for name, have in parts.items():
        assert ranges[name] == (f"bytes={have}-" if have else None)
    for path, content in server.files.items():
        assert (tmp_path / path[1:]).read_bytes() == content


def find_by(server, folder):
    """As a run does, with the server as a mirror."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRQAM_JAX_MIRRORS", server.url)
        return find(PUZZLE, folder, 10)


def test_the_list_says_what_there_is_and_what_is_here(start, plain, tmp_path, capsys, monkeypatch):
    command = [f"--dataset_dir={tmp_path}", "--list"]
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", plain.url)
    find(CUBE, tmp_path)
    capsys.readouterr()
    before = plain.connections
    monkeypatch.setattr(sys, "argv", ["download", *command])
    commands.hand_over("download")
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert plain.connections == before
    size = (len(CONTENT) + len(OTHER)) / 1000
    assert lines["cube-single-play-v0"].split()[1:] == [
        "--env=cube-single", f"{size:.0f}kB", "yes", f"{plain.url},", f"{sources.OGBENCH_URL},", sources.HUB,
    ]  # fmt: skip
    assert lines["cube-double-play-v0"].split()[1:4] == ["--env=cube-double", "327MB", "no"]
    assert lines["puzzle-4x4-play-100m-v0"].split()[1:5] == ["--env=puzzle-4x4", "--shards=100", "unknown", "no"]
    assert lines["antmaze-giant-navigate-10m-v0"].split()[2] == "--shards=10"
    assert "can-mg-dense" in lines  # of the other suite
    policy = ["--env=scene", "--bc_checkpoint=released", "no", f"hf://{SUITES['ogbench'].bc_policies.repository}"]
    assert lines["scene"].split()[1:] == policy
    download.main(["--env=cube-single", *command])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_remove_takes_what_is_the_sets_and_nothing_else(start, tmp_path, capsys, monkeypatch):
    server = start({**shards_of(PUZZLE, 3), f"/{NAME}": CONTENT, f"/{VAL}": OTHER})
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", server.url)
    folder = find(PUZZLE, tmp_path, 3)
    find(CUBE, tmp_path)
    converted = folder / "converted-puzzle-4x4-0123456789abcdef"
    converted.mkdir()
    (converted / "rows.npy").write_bytes(bytes(1000))
    (folder / "notes.txt").write_text("mine")
    third, size = sources.file_names(PUZZLE, 3)[4:], sum(path.stat().st_size for path in folder.glob("*-00[01]*"))
    capsys.readouterr()
    remove = ["--env=puzzle-4x4", f"--dataset_dir={tmp_path}", "--remove"]
    download.main([*remove, "--shards=2"])
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [f"{tmp_path / name}: removed" for name in sources.file_names(PUZZLE, 2)]
    assert said[4] == f"{converted}: removed"
    locks = "pid 1 on host x"
    freed = int(said[5].partition(": 5 removed, ")[2].removesuffix(" bytes freed").replace(",", ""))
    assert size + 1000 <= freed <= size + 1000 + 100 * len(locks)
    kept = {"notes.txt", *(pathlib.Path(name + end).name for name in third for end in ("", ".sha256"))}
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == kept
    download.main([*remove, "--shards=3"])
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    download.main(["--env=cube-single", f"--dataset_dir={tmp_path}", "--remove"])
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert "cube-single-play-v0: 2 removed, 111," in capsys.readouterr().out


def test_places_in_their_order(monkeypatch):
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", "https://b/ https://c")
    places = lambda domain, shards=0: sources.file_set(SUITE.domains[domain], shards).files(["http://a"])[0].places
    mirrored = lambda name: tuple(f"{base}/{name}" for base in ("http://a", "https://b", "https://c"))
    name = "scene-play-v0.npz"
    assert places("scene") == (*mirrored(name), f"{sources.OGBENCH_URL}/{name}", f"{sources.HUB}/{name}")
    shard = "scene-play-100m-v0/scene-play-v0-000.npz"
    assert places("scene", 1) == (*mirrored(shard), f"{sources.OGBENCH_URL}/{shard}")
    assert places("cube-single", 1) == mirrored("cube-single-play-100m-v0/cube-single-play-v0-000.npz")
    monkeypatch.delenv("TRQAM_JAX_MIRRORS")
    with pytest.raises(DownloadError, match=r"no 100M release of cube-single.*--mirror=URL"):
        sources.file_set(CUBE, 1).files([])
