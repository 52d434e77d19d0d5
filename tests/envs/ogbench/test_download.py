"""Downloads from a server that truncates, stalls, refuses and lies: the right file, or one clear error."""

import contextlib
import errno
import hashlib
import io
import pathlib
import signal
import subprocess
import sys
import threading
import time
import zipfile

import file_server
import numpy as np
import pytest

from envs import downloads
from envs.ogbench import SUITE, download
from envs.ogbench import files as ogbench
from trqam_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]
CUBE = SUITE.domains["cube-single"]
QUICK = download.Patience(timeout=0.2, attempts=3, backoff=0.0)
NAME = "cube-single-play-v0.npz"


def npz(seed, size=50_000):
    """The bytes of an npz of about `size` bytes that do not compress."""
    file = io.BytesIO()
    np.savez(file, observations=np.random.default_rng(seed).bytes(size), actions=np.arange(9.0))
    return file.getvalue()


CONTENT, OTHER = npz(0), npz(1, 60_000)
HALF = len(CONTENT) // 2


@pytest.fixture
def make_server():
    """A function that starts a server with one file."""
    with file_server.servers() as start:
        yield lambda content=CONTENT, faults=(): start({"/" + NAME: content}, faults)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / NAME


def fetch(target, *servers, patience=QUICK):
    return downloads.fetch(target, [f"{server.url}/{NAME}" for server in servers], patience, download.damage)


def check_done(target, content=CONTENT):
    """The target holds the content, its checksum is recorded, nothing partial is left."""
    assert target.read_bytes() == content
    names = {path.name for path in target.parent.iterdir()}
    assert names == {NAME, f"{NAME}.sha256", f".{NAME}.lock"}
    digest = hashlib.sha256(content).hexdigest()
    assert (target.parent / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"


def test_a_file_that_is_there_is_not_asked_for_again(make_server, target):
    server = make_server()
    assert fetch(target, server)
    check_done(target)
    assert not fetch(target, server)
    assert server.requests == [["/" + NAME, None, len(CONTENT)]]


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_broken_connections_resume_with_the_rest(make_server, target, fault):
    server = make_server(faults=[fault, fault])
    fetch(target, server)
    check_done(target)
    first, second, third = server.requests
    assert (first[1], second[1]) == (None, f"bytes={first[2]}-")
    assert third[1] == f"bytes={first[2] + second[2]}-"
    assert first[2] + second[2] + third[2] == len(CONTENT)


@pytest.mark.parametrize("fault", [500, 503, 429])
def test_server_errors_are_retried(make_server, target, fault):
    server = make_server(faults=[fault, fault])
    fetch(target, server)
    check_done(target)
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [404, 403])
def test_a_refusal_goes_to_the_next_mirror_at_once(make_server, target, fault):
    bad, good = make_server(faults=[fault]), make_server()
    fetch(target, bad, good)
    check_done(target)
    assert (len(bad.requests), len(good.requests)) == (1, 1)


def test_a_mirror_that_fails_for_good_leaves_its_part_to_the_next(make_server, target):
    bad, good = make_server(faults=["truncate", 500, 500]), make_server()
    fetch(target, bad, good)
    check_done(target)
    assert good.requests == [["/" + NAME, f"bytes={HALF}-", len(CONTENT) - HALF]]


def test_a_redirect_is_followed_and_what_broke_off_goes_on_behind_it(make_server, target):
    """The ETag that counts is of the server that has the bytes; the redirect's own is another."""
    front, back = make_server(), make_server(faults=["truncate"])
    front.redirects["/" + NAME] = "/moved"
    front.redirects["/moved"] = f"{back.url}/{NAME}"
    fetch(target, front)
    check_done(target)
    assert back.requests == [["/" + NAME, None, HALF], ["/" + NAME, f"bytes={HALF}-", len(CONTENT) - HALF]]


def test_a_redirect_to_another_file_starts_from_zero(make_server, target):
    front, first, second = make_server(), make_server(OTHER, faults=["truncate"]), make_server()
    front.redirects["/" + NAME] = f"{first.url}/{NAME}"
    with pytest.raises(download.DownloadError):
        fetch(target, front, patience=QUICK._replace(attempts=1))
    front.redirects["/" + NAME] = f"{second.url}/{NAME}"
    fetch(target, front)
    check_done(target)
    assert second.requests == [["/" + NAME, f"bytes={len(OTHER) // 2}-", len(CONTENT)]]


def test_redirects_in_a_circle_are_one_line_and_the_next_mirror(make_server, target):
    front = make_server()
    front.redirects["/" + NAME] = f"{front.url}/{NAME}"
    with pytest.raises(download.DownloadError, match=r"HTTP 307 .*infinite loop") as raised:
        fetch(target, front)
    assert "\n" not in str(raised.value)
    fetch(target, front, make_server())
    check_done(target)


def test_a_server_without_ranges_starts_from_zero(make_server, target):
    server = make_server(faults=["truncate", "no ranges"])
    fetch(target, server)
    check_done(target)
    assert [request[2] for request in server.requests] == [HALF, len(CONTENT)]


def test_without_etag_or_date_nothing_is_resumed(make_server, target):
    server = make_server(faults=["truncate"])
    server.validators = False
    fetch(target, server)
    check_done(target)
    assert [request[1] for request in server.requests] == [None, None]


def test_a_file_that_changed_between_attempts_starts_from_zero(make_server, target):
    server = make_server(OTHER, faults=["truncate"])
    with pytest.raises(download.DownloadError):
        fetch(target, server, patience=QUICK._replace(attempts=1))
    server.files["/" + NAME] = CONTENT
    fetch(target, server)
    check_done(target)
    assert server.requests[-1][1:] == [f"bytes={len(OTHER) // 2}-", len(CONTENT)]


@pytest.mark.parametrize("fault", ["ignores If-Range", 416])
def test_a_changed_file_is_noticed_even_if_the_server_does_not_say(make_server, target, fault):
    server = make_server(OTHER, faults=["truncate"])
    with pytest.raises(download.DownloadError):
        fetch(target, server, patience=QUICK._replace(attempts=1))
    server.files["/" + NAME], server.faults = CONTENT, [fault]
    fetch(target, server)
    check_done(target)
    assert [request[1] for request in server.requests] == [None, f"bytes={len(OTHER) // 2}-", None]


def test_without_a_length_the_zip_tells_whether_all_came(make_server, target):
    server = make_server(CONTENT[:-1], faults=["no length"])
    with pytest.raises(download.DownloadError, match=r"its 5\d,\d+ bytes are no intact npz"):
        fetch(target, server)
    fetch(target, make_server(faults=["no length"]))
    check_done(target)


def test_a_wrong_range_is_an_error_of_that_mirror(make_server, target):
    server = make_server(faults=["truncate", "wrong range"])
    with pytest.raises(
        download.DownloadError, match=rf"Content-Range 'bytes {HALF + 1}-\d+/\d+', expected 'bytes {HALF}-"
    ):
        fetch(target, server)
    fetch(target, make_server(faults=[404]), server)
    check_done(target)


def test_when_all_fail_one_line_lists_every_mirror_and_what_is_kept(make_server, target):
    short, missing, broken = (
        make_server(faults=["truncate"] * 3),
        make_server(faults=[404]),
        make_server(faults=[500] * 3),
    )
    gone = make_server()
    gone.shutdown()
    gone.server_close()
    with pytest.raises(download.DownloadError) as raised:
        fetch(target, short, missing, broken, gone)
    message, size = str(raised.value), (target.parent / f"{NAME}.part").stat().st_size
    assert "\n" not in message
    assert message.startswith(f"{target}: not downloaded (")
    for reason in (
        f"{short.url}/{NAME}: {size:,} bytes arrived of {len(CONTENT):,}, in attempt 3 of 3",
        f"{missing.url}/{NAME}: HTTP 404 Not Found",
        f"{broken.url}/{NAME}: HTTP 500 Internal Server Error, in attempt 3 of 3",
        f"{gone.url}/{NAME}: [Errno {errno.ECONNREFUSED}]",
        f"the first {size:,} bytes are kept in {NAME}.part",
        "TRQAM_JAX_MIRRORS='URL ...' names other servers",
    ):
        assert reason in message
    assert not target.exists()


def test_a_silent_server_is_given_up(make_server, target):
    server = make_server(faults=["hold"] * 3)
    with pytest.raises(download.DownloadError, match=r"silent for 0\.2 s, in attempt 3 of 3\); nothing is kept"):
        fetch(target, server)


def test_damaged_content_of_the_right_size_is_refused(make_server, target):
    damaged = bytearray(CONTENT)
    damaged[HALF] ^= 1
    bad = make_server(bytes(damaged))
    with pytest.raises(
        download.DownloadError, match=r"no intact npz \(the CRC of observations\.npy is wrong\)\); nothing"
    ):
        fetch(target, bad)
    assert len(bad.requests) == 1
    page = make_server(b"<html>Please log in</html>")
    with pytest.raises(download.DownloadError, match="no intact npz"):
        fetch(target, page)
    assert not target.exists()
    fetch(target, bad, make_server())
    check_done(target)


def test_a_spoilt_part_is_made_good_by_starting_over(make_server, target):
    """Its size is right and the server's file unchanged: only the CRCs tell."""
    server = make_server(faults=["truncate"])
    with pytest.raises(download.DownloadError):
        fetch(target, server, patience=QUICK._replace(attempts=1))
    part = target.parent / f"{NAME}.part"
    part.write_bytes(bytes(HALF))
    fetch(target, server)
    check_done(target)
    assert [request[1] for request in server.requests] == [None, f"bytes={HALF}-", None]


def test_what_ended_just_before_the_checks_is_not_transferred_again(make_server, target, monkeypatch):
    server = make_server()
    with monkeypatch.context() as patch:
        patch.setattr(download, "damage", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(target, server)
    assert not target.exists()
    inode = (target.parent / f"{NAME}.part").stat().st_ino
    fetch(target, server)
    check_done(target)
    assert len(server.requests) == 1
    assert target.stat().st_ino == inode  # renamed, never copied


def test_a_full_disk_is_one_clear_error_and_keeps_the_part(make_server, target, monkeypatch):
    server = make_server(faults=["truncate"])

    class Full(io.FileIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = pathlib.Path.open
    full = lambda self, mode="r", **kwargs: Full(self, mode) if mode == "ab" else opened(self, mode, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", full)
        with pytest.raises(download.DownloadError, match=rf"the disk is full; the first {HALF:,} bytes are kept in"):
            fetch(target, server)
    assert len(server.requests) == 2
    fetch(target, server)
    check_done(target)


def test_no_folder_can_be_made(make_server, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(download.DownloadError, match="File exists"):
        fetch(tmp_path / "data" / NAME, make_server())


def wait_until(condition):
    deadline = time.time() + 20
    while not condition():
        assert time.time() < deadline
        time.sleep(0.01)


def start_command(*arguments, out=subprocess.PIPE):
    command = [sys.executable, "-m", "envs.download", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True)


def test_killed_in_the_middle_resumes_with_the_rest(make_server, target):
    server = make_server(faults=["stall"])
    part = target.parent / f"{NAME}.part"
    flags = ("--env=cube-single", f"--mirror={server.url}", f"--dataset_dir={target.parent}")
    with start_command(*flags, out=subprocess.DEVNULL) as process:
        wait_until(lambda: part.exists() and part.stat().st_size)
        assert not target.exists()
        process.send_signal(signal.SIGKILL)
    have = part.stat().st_size
    fetch(target, server)  # the lock of the dead process is free
    check_done(target)
    assert server.requests[-1] == ["/" + NAME, f"bytes={have}-", len(CONTENT) - have]


def test_two_processes_transfer_each_file_once(make_server, target):
    server = make_server(faults=["hold"])
    server.files[f"/{CUBE.title}-v0-val.npz"] = OTHER
    flags = ("--env=cube-single-task1", f"--mirror={server.url}", f"--dataset_dir={target.parent}")
    with start_command(*flags) as first:
        wait_until(lambda: server.requests)
        with start_command(*flags) as second:
            assert second.stdout.readline() == f"{target}: waiting for another process that makes it\n"
            server.gate.set()
            outputs = first.communicate()[0], second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert sorted(request[0] for request in server.requests) == sorted(server.files)
    for name in (NAME, f"{CUBE.title}-v0-val.npz"):
        lines = [line for text in outputs for line in text.splitlines() if f"/{name}: " in line]
        assert sum(line.endswith(" bytes, downloaded") for line in lines) == 1
        assert sum(line.endswith(" bytes, was there already") for line in lines) == 1
    assert target.read_bytes() == CONTENT


def test_the_target_is_never_seen_half_written(make_server, target):
    """Eight threads at once; a reader beside them sees nothing or the whole."""
    server, seen, done = make_server(faults=["truncate", "truncate"]), set(), threading.Event()

    def watch():
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add(target.read_bytes())

    threads = [threading.Thread(target=fetch, args=(target, server)) for _ in range(8)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    check_done(target)
    assert seen <= {CONTENT}
    assert len(server.requests) == 3


def test_verify_reads_everything(make_server, target, capsys):
    server = make_server()
    server.files[f"/{CUBE.title}-v0-val.npz"] = OTHER
    flags = ["--env=cube-single", f"--dataset_dir={target.parent}"]
    verify = [*flags, "--verify"]
    with pytest.raises(SystemExit):
        download.main(verify)
    assert capsys.readouterr().err.count("no such file") == 2
    download.main([*flags, f"--mirror={server.url}"])
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
    with pytest.raises(download.DownloadError, match=hashlib.sha256(CONTENT).hexdigest()):
        downloads.verify(target, download.damage)
    (target.parent / f"{NAME}.sha256").unlink()
    assert not downloads.verify(target, download.damage)


def test_every_flipped_byte_is_noticed(target):
    """By the zip or by the recorded checksum, and always as a DownloadError."""
    content, rng = npz(2, size=300), np.random.default_rng(0)
    target.parent.mkdir()
    target.with_name(f"{NAME}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {NAME}\n")
    for position in range(len(content)):
        spoilt = bytearray(content)
        spoilt[position] ^= 1 << int(rng.integers(8))
        target.write_bytes(spoilt)
        with pytest.raises(download.DownloadError):
            downloads.verify(target, download.damage)
    target.write_bytes(content)
    assert downloads.verify(target, download.damage)


def test_an_empty_zip_is_no_data(make_server, target):
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    with pytest.raises(download.DownloadError, match="it is empty"):
        fetch(target, make_server(file.getvalue()))


def test_files_and_folders_are_named_as_ogbench_names_them():
    import ogbench.utils

    assert download.OGBENCH_URL == ogbench.utils.DATASET_URL
    assert download.file_names(CUBE) == ["cube-single-play-v0.npz", "cube-single-play-v0-val.npz"]
    shards = download.file_names(SUITE.domains["puzzle-4x4"], 2)
    assert shards[:2] == [f"puzzle-4x4-play-100m-v0/puzzle-4x4-play-v0-000{end}.npz" for end in ("", "-val")]
    assert shards[2] == "puzzle-4x4-play-100m-v0/puzzle-4x4-play-v0-001.npz"
    with pytest.raises(SystemExit, match="--timeout: expected seconds above 0"):
        download.main(["--env=cube-single", "--timeout=0"])
    with pytest.raises(UserError, match="--shards=101"):
        download.file_names(CUBE, 101)


def test_mirrors_come_first_and_are_urls(monkeypatch):
    urls = lambda domain, shards=0, mirrors=(): download.base_urls(SUITE.domains[domain], shards, mirrors)
    assert urls("scene") == [download.OGBENCH_URL]
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", "https://b/ https://c")
    assert urls("scene", 1, ["http://a"]) == ["http://a", "https://b", "https://c", download.OGBENCH_URL]
    assert urls("antmaze-giant", 1) == ["https://b", "https://c"]
    with pytest.raises(UserError, match="mirror 'ftp://a': expected a URL"):
        urls("scene", mirrors=["ftp://a"])
    monkeypatch.delenv("TRQAM_JAX_MIRRORS")
    with pytest.raises(download.DownloadError, match=r"no 100M release of antmaze-giant.*--mirror=URL"):
        urls("antmaze-giant", 1)


def test_shards_lie_where_training_looks_for_them(make_server, tmp_path):
    server, domain = make_server(), SUITE.domains["puzzle-4x4"]
    server.files = {f"/{name}": npz(i, 300) for i, name in enumerate(download.file_names(domain, 2))}
    download.download(domain, tmp_path, shards=2, mirrors=[server.url], patience=QUICK)
    folder = ogbench.find(domain, "auto", str(tmp_path), episodes=1, seed=0, shards=2)
    files = ogbench.shard_files(folder, 2)
    assert [path.name for path in files] == ["puzzle-4x4-play-v0-000.npz", "puzzle-4x4-play-v0-001.npz"]
    assert all(ogbench.partner(path).exists() for path in files)
    assert len(ogbench.shard_files(folder, 0)) == 2


def test_find_downloads_from_the_mirror_of_the_environment(make_server, tmp_path, monkeypatch):
    server = make_server()
    server.files[f"/{CUBE.title}-v0-val.npz"] = OTHER
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", server.url)
    path = ogbench.find(CUBE, "auto", str(tmp_path / "new"), episodes=1, seed=0, shards=0)
    assert path == tmp_path / "new" / NAME
    assert (path.read_bytes(), ogbench.partner(path).read_bytes()) == (CONTENT, OTHER)
