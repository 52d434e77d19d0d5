"""Downloads from servers that truncate, stall, refuse and lie: the right file, or one clear error."""

import contextlib
import errno
import hashlib
import io
import pathlib
import shutil
import threading
import zipfile

import file_server
import pytest
from huggingface_hub import constants

from trqam_jax import download, places
from trqam_jax.download import DownloadError, RemoteFile
from trqam_jax.errors import UserError

QUICK = download.Patience(connect=2, silence=0.5, attempts=3, backoff=0.0)
NAME = "some-v0.npz"


def npz(seed, size=50_000):
    """The bytes of a zip of about `size` bytes that do not compress."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("observations.npy", hashlib.shake_128(bytes([seed])).digest(size))
    return file.getvalue()


CONTENT, OTHER = npz(0), npz(1, 60_000)
HALF = len(CONTENT) // 2


def damage(path):
    """Why it is no whole zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except zipfile.BadZipFile as error:
        return str(error)


@pytest.fixture
def start():
    with file_server.servers() as start:
        yield start


@pytest.fixture
def make_server(start):
    """A function that starts a server with one file."""
    return lambda content=CONTENT, faults=(): start({"/" + NAME: content}, faults)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / NAME


def fetch(target, *servers, patience=QUICK, damage=damage, **known):
    """Whether it had to be downloaded."""
    places = tuple(server if isinstance(server, str) else f"{server.url}/{NAME}" for server in servers)
    files = [RemoteFile(target.name, places, **known)]
    return download.fetch_all(target.parent, files, patience=patience, damage=damage)[target]


def check_done(target, content=CONTENT):
    """The target holds the content, its checksum is recorded, nothing partial is left."""
    assert target.read_bytes() == content
    names = {path.name for path in target.parent.iterdir()}
    assert names == {NAME, f"{NAME}.sha256", f".{NAME}.lock"}
    digest = hashlib.sha256(content).hexdigest()
    assert (target.parent / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"


def broken_off(target, server):
    """Leave half of what the server has."""
    server.faults = ["truncate"]
    with pytest.raises(DownloadError, match="in a row"):
        fetch(target, server, patience=QUICK._replace(attempts=0))


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
    bad, good = make_server(faults=["truncate", 500, 500, 500]), make_server()
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
    front, first, second = make_server(), make_server(OTHER), make_server()
    front.redirects["/" + NAME] = f"{first.url}/{NAME}"
    first.faults = ["truncate"]
    broken_off(target, front)
    front.redirects["/" + NAME] = f"{second.url}/{NAME}"
    fetch(target, front)
    check_done(target)
    assert second.requests == [["/" + NAME, f"bytes={len(OTHER) // 2}-", len(CONTENT)]]


def test_redirects_in_a_circle_are_one_line_and_the_next_mirror(make_server, target):
    front = make_server()
    front.redirects["/" + NAME] = f"{front.url}/{NAME}"
    with pytest.raises(DownloadError, match=r"Exceeded 30 redirects") as raised:
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
    server = make_server(OTHER)
    broken_off(target, server)
    server.files["/" + NAME] = CONTENT
    fetch(target, server)
    check_done(target)
    assert server.requests[-1][1:] == [f"bytes={len(OTHER) // 2}-", len(CONTENT)]


@pytest.mark.parametrize("fault", ["ignores If-Range", 416])
def test_a_changed_file_is_noticed_even_if_the_server_does_not_say(make_server, target, fault):
    server = make_server(OTHER)
    broken_off(target, server)
    server.files["/" + NAME], server.faults = CONTENT, [fault]
    fetch(target, server)
    check_done(target)
    assert [request[1] for request in server.requests] == [None, f"bytes={len(OTHER) // 2}-", None]


def test_without_a_length_the_zip_tells_whether_all_came(make_server, target):
    server = make_server(CONTENT[:-1], faults=["no length"])
    with pytest.raises(DownloadError, match=r"5\d,\d+ bytes arrived, no intact npz"):
        fetch(target, server)
    fetch(target, make_server(faults=["no length"]))
    check_done(target)


def test_a_wrong_range_is_an_error_of_that_mirror(make_server, target):
    server = make_server(faults=["truncate", "wrong range"])
    with pytest.raises(DownloadError, match=rf"Content-Range 'bytes {HALF + 1}-\d+/\d+', expected 'bytes {HALF}-"):
        fetch(target, server)
    fetch(target, make_server(faults=[404]), server)
    check_done(target)


def test_when_all_fail_one_line_lists_every_mirror_and_what_is_kept(make_server, target):
    short, missing, broken = (
        make_server(faults=["truncate", 403]),
        make_server(faults=[404]),
        make_server(faults=[500] * 3),
    )
    gone = make_server()
    gone.shutdown()
    gone.server_close()
    with pytest.raises(DownloadError) as raised:
        fetch(target, short, missing, broken, gone)
    message, size = str(raised.value), (target.parent / f"{NAME}.part").stat().st_size
    assert "\n" not in message
    assert message.startswith(f"{target}: not downloaded (")
    for reason in (
        f"{short.url}/{NAME}: HTTP 403 Forbidden",
        f"{missing.url}/{NAME}: HTTP 404 Not Found",
        f"{broken.url}/{NAME}: HTTP 500 Internal Server Error",
        f"{gone.url}/{NAME}: cannot be reached (Failed to establish a new connection: [Errno {errno.ECONNREFUSED}]",
        f"the first {size:,} bytes are kept in {NAME}.part",
        "TRQAM_JAX_MIRRORS='URL ...' names other servers",
    ):
        assert reason in message
    assert not target.exists()


def test_a_silent_server_is_given_up(make_server, target):
    server = make_server(faults=["hold"] * 3)
    with pytest.raises(DownloadError, match=r"silent for 0\.5 s, 3 times in a row\); nothing is kept"):
        fetch(target, server)


def test_damaged_content_of_the_right_size_is_refused(make_server, target):
    damaged = bytearray(CONTENT)
    damaged[HALF] ^= 1
    bad = make_server(bytes(damaged))
    with pytest.raises(DownloadError, match=r"no intact npz \(observations\.npy\)\); nothing"):
        fetch(target, bad)
    assert len(bad.requests) == 1
    page = make_server(b"<html>Please log in</html>")
    with pytest.raises(DownloadError, match="no intact npz"):
        fetch(target, page)
    assert not target.exists()
    fetch(target, bad, make_server())
    check_done(target)


def test_a_spoilt_part_is_made_good_by_starting_over(make_server, target):
    """Its size is right and the server's file unchanged: only the CRCs tell."""
    server = make_server()
    broken_off(target, server)
    part = target.parent / f"{NAME}.part"
    part.write_bytes(bytes(HALF))
    fetch(target, server)
    check_done(target)
    assert [request[1] for request in server.requests] == [None, f"bytes={HALF}-", None]


def test_what_ended_just_before_the_checks_is_not_transferred_again(make_server, target):
    server = make_server()

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(target, server, damage=interrupted)
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
        with pytest.raises(DownloadError, match=rf"the disk is full; the first {HALF:,} bytes are kept in"):
            fetch(target, server)
    assert len(server.requests) == 2
    fetch(target, server)
    check_done(target)


def test_no_folder_can_be_made(make_server, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DownloadError, match="File exists"):
        fetch(tmp_path / "data" / NAME, make_server())


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


def test_the_wait_that_a_server_asks_for_is_kept(make_server, target, monkeypatch):
    waits = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    server = make_server(faults=[429, 429])
    server.retry_after = 7
    fetch(target, server)
    check_done(target)
    assert waits == [7, 7]


def test_a_redirect_to_nothing_is_named_and_the_next_place_tried(make_server, target, capsys):
    front, good = make_server(), make_server()
    front.redirects["/" + NAME] = "/nothing"
    fetch(target, front, good)
    check_done(target)
    line = f"{front.url}/{NAME}: HTTP 404 Not Found; trying {good.url}/{NAME}\n"
    assert capsys.readouterr().err == line
    assert front.requests == []  # it was enough to ask for the size


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"size": 7}, "50,130 bytes arrived, expected 7"),
        ({"sha256": "0" * 64}, f"with sha256 {hashlib.sha256(CONTENT).hexdigest()}, expected {'0' * 64}"),
    ],
)
def test_what_is_known_of_a_file_must_hold(make_server, target, known, reason):
    server = make_server()
    with pytest.raises(DownloadError, match=reason):
        fetch(target, server, **known)
    assert not list(target.parent.glob("some*"))
    right = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    fetch(target, server, **right)
    check_done(target)


def test_one_line_says_first_what_is_to_come(start, tmp_path, capsys):
    """Several at a time; what nobody knows is said, too, and a server that has no HEAD is no worse for it."""
    server, silent = start({f"/{i}.npz": npz(i) for i in range(6)}), start({"/6.npz": npz(6)})
    silent.head_status = 405
    files = [RemoteFile(f"a/{i}.npz", (f"{server.url}/{i}.npz",)) for i in range(6)]
    files.append(RemoteFile("a/6.npz", (f"{silent.url}/6.npz",)))
    done = download.fetch_all(tmp_path, files, patience=QUICK)
    assert list(done) == [tmp_path / file.name for file in files]
    assert all(done.values())
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("downloading 7 files (a/0.npz, ...): 301kB, 1 of unknown size, from ")
    assert f"from {server.url}, {silent.url} into {tmp_path}, where " in first
    assert len(others) == 7
    assert download.fetch_all(tmp_path, files) == dict.fromkeys(done, False)


def test_nothing_is_contacted_when_all_is_there(make_server, target):
    server = make_server()
    fetch(target, server)
    before = server.connections
    assert not fetch(target, server)
    assert server.connections == before > 0


def test_no_room_is_an_error_before_a_byte_comes(make_server, target, monkeypatch):
    server = make_server()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 50_000))
    with pytest.raises(DownloadError, match=r"50\.1kB are to be downloaded, its disk has 50\.0kB left") as raised:
        fetch(target, server)
    assert "\n" not in str(raised.value)
    assert server.requests == []
    broken = f"{server.url}/{NAME}"
    monkeypatch.undo()
    server.faults = ["truncate"]
    broken_off(target, server)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 50_000))
    fetch(target, broken)  # half of it is there: the rest has room
    check_done(target)


def test_an_answer_of_no_leaves_all_as_it_is(make_server, target):
    server = make_server()
    with pytest.raises(DownloadError, match="were not to be downloaded"):
        download.fetch(target.parent, RemoteFile(NAME, (f"{server.url}/{NAME}",)), confirm=lambda: False)
    assert (server.requests, target.parent.exists()) == ([], False)


def test_a_server_that_takes_no_calls_is_not_named_for_every_file(start, tmp_path, capsys):
    server = start({f"/{i}": npz(i) for i in range(30)})
    files = [RemoteFile(str(i), (f"http://127.0.0.1:9/{i}", f"{server.url}/{i}")) for i in range(30)]
    assert len(download.fetch_all(tmp_path, files, patience=QUICK)) == 30
    assert 1 <= capsys.readouterr().err.count("; trying ") <= download.AT_ONCE


def test_the_first_error_of_many_files_stops_the_others(start, tmp_path):
    server = start({f"/{i}": npz(i) for i in range(9)})
    server.stuck = [f"/{i}" for i in range(9) if i != 2]
    files = [RemoteFile(str(i), (f"{server.url}/{i}",), sha256="0" * 64 if i == 2 else None) for i in range(9)]
    with pytest.raises(DownloadError, match="with sha256"):
        download.fetch_all(tmp_path, files, patience=QUICK._replace(silence=20))
    assert {path for path, *_ in server.requests} <= {"/0", "/1", "/2", "/3"}
    assert not [path for path in tmp_path.iterdir() if path.name in "012345678"]


@pytest.fixture
def hub(start, monkeypatch):
    """A function that starts a Hub with these files of the dataset me/data."""

    def make(files):
        server = file_server.hub(start, {"me/data": files})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        return server

    return make


HUB_PLACE = f"hf://datasets/me/data/{NAME}"


def test_the_hub_is_resumed_and_its_token_stays_with_it(hub, target):
    server = hub({NAME: CONTENT})
    server.storage.faults = ["truncate"]
    fetch(target, HUB_PLACE)
    check_done(target)
    blob = next(iter(server.storage.files))
    assert server.storage.requests == [[blob, None, HALF], [blob, f"bytes={HALF}-", HALF]]
    assert set(server.tokens) >= {"Bearer hf_secret"}
    assert set(server.storage.tokens) == {None}


def test_the_hubs_digest_must_hold(hub, target):
    server = hub({NAME: CONTENT})
    server.storage.files = dict.fromkeys(server.storage.files, OTHER[: len(CONTENT)])
    with pytest.raises(DownloadError, match=f"with sha256 .*, expected {hashlib.sha256(CONTENT).hexdigest()}"):
        download.fetch(target.parent, RemoteFile(NAME, (HUB_PLACE,)), patience=QUICK)
    assert not target.exists()


def test_what_the_hub_does_not_have_comes_from_the_next_place(hub, make_server, target):
    hub({})
    fetch(target, HUB_PLACE, make_server())
    check_done(target)


def test_the_hub_is_not_asked_offline(hub, target, monkeypatch):
    server = hub({NAME: CONTENT})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"\(hf://datasets/me/data/some-v0.npz: HF_HUB_OFFLINE is set\); nothing"):
        fetch(target, HUB_PLACE)
    with pytest.raises(places.PlaceError, match="offline"):
        places.list_hub("hf://datasets/me/data")
    assert server.connections == 0


def test_the_hub_lists_its_files(hub):
    hub({"b.npz": b"", "a/c.npz": b"", "README.md": b""})
    assert places.list_hub("hf://datasets/me/data") == ["README.md", "a/c.npz", "b.npz"]
    with pytest.raises(places.PlaceError, match="404"):
        places.list_hub("hf://datasets/me/nothing")


def test_a_hub_that_fails_is_asked_once_for_its_files(hub):
    server = hub({"b.npz": b""})
    server.faults = [503] * 9
    with pytest.raises(places.PlaceError, match="503"):
        places.list_hub("hf://datasets/me/data")
    assert len(server.requests) == 1


def test_mirrors_come_in_their_order_and_are_urls(monkeypatch):
    monkeypatch.setenv("TRQAM_JAX_MIRRORS", "https://b/ https://c http://a hf://datasets/me/data")
    assert download.mirrors(["http://a"]) == ["http://a", "https://b", "https://c", "hf://datasets/me/data"]
    with pytest.raises(UserError, match="mirror 'ftp://a': expected a URL"):
        download.mirrors(["ftp://a"])
